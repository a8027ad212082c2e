"""The settings of urls.py. The last four lines are those that a project needs for gripd."""

SECRET_KEY = "only for this example: yours must be a secret"
DEBUG = True
ROOT_URLCONF = "urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "chat.db"}}

INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_eventstream"]
MIDDLEWARE = ["django_grip.GripMiddleware"]
GRIP_URL = "http://localhost:5561"
EVENTSTREAM_STORAGE_CLASS = "django_eventstream.storage.DjangoModelStorage"
