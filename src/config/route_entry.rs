//! A route as a table of the configuration file. Its keys are the options of a line in a routes file.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteEntry {
    #[serde(default = "any_host")]
    host: String,
    target: OneOrMore,
    proto: Option<String>,
    ssl: Option<bool>,
    path_beg: Option<String>,
    id: Option<String>,
    prefix: Option<String>,
    sig_iss: Option<String>,
    sig_key: Option<String>,
    as_host: Option<String>,
    path_rem: Option<u32>,
    replace_beg: Option<String>,
    log_level: Option<u8>,
    response_timeout: Option<f64>,
    #[serde(default)]
    header: Vec<String>,
    #[serde(default)]
    debug: bool,
    #[serde(default)]
    orig_headers: bool,
    #[serde(default)]
    no_grip: bool,
    #[serde(default)]
    aco: bool,
    jsonp_mode: Option<String>,
    jsonp_cb: Option<String>,
    jsonp_body: Option<String>,
    jsonp_defcb: Option<String>,
    jsonp_defmethod: Option<String>,
    #[serde(default)]
    user_jwt: OneOrMore,
    user_key: Option<String>,
    user_jwks: Option<String>,
    user_claim: Option<String>,
    user_iss: Option<String>,
    user_aud: Option<String>,
    #[serde(default)]
    user_required: bool,
    #[serde(default)]
    close_at_expiry: bool,
    user_meta: Option<String>,
    user_header: Option<String>,
    #[serde(default)]
    user_proxies: OneOrMore,
    user_channel: Option<String>,
    channels: Option<Vec<String>>,
}

/// One text, or a list of texts. A target is written with its options, as in a routes file.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "give a string in quotes, or a list of such strings")]
enum OneOrMore {
    One(String),
    Several(Vec<String>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

fn any_host() -> String {
    "*".into()
}

impl RouteEntry {
    /// Returns the line of a routes file that describes the same route.
    pub(super) fn line(&self) -> String {
        let ssl = self.ssl.map(|ssl| if ssl { "yes" } else { "no" }.to_owned());
        let flag = |on: bool| on.then(String::new);
        let (path_rem, log_level) = (self.path_rem.map(|n| n.to_string()), self.log_level.map(|n| n.to_string()));
        let response_timeout = self.response_timeout.map(|seconds| seconds.to_string());
        let (debug, orig_headers) = (flag(self.debug), flag(self.orig_headers));
        let (no_grip, aco) = (flag(self.no_grip), flag(self.aco));
        let (user_required, close_at_expiry) = (flag(self.user_required), flag(self.close_at_expiry));
        let mut line = quote(&self.host);
        let properties = [
            ("proto", &self.proto),
            ("ssl", &ssl),
            ("path_beg", &self.path_beg),
            ("id", &self.id),
            ("prefix", &self.prefix),
            ("sig_iss", &self.sig_iss),
            ("sig_key", &self.sig_key),
            ("as_host", &self.as_host),
            ("path_rem", &path_rem),
            ("replace_beg", &self.replace_beg),
            ("log_level", &log_level),
            ("response_timeout", &response_timeout),
            ("debug", &debug),
            ("orig_headers", &orig_headers),
            ("no_grip", &no_grip),
            ("aco", &aco),
            ("jsonp_mode", &self.jsonp_mode),
            ("jsonp_cb", &self.jsonp_cb),
            ("jsonp_body", &self.jsonp_body),
            ("jsonp_defcb", &self.jsonp_defcb),
            ("jsonp_defmethod", &self.jsonp_defmethod),
            ("user_key", &self.user_key),
            ("user_jwks", &self.user_jwks),
            ("user_claim", &self.user_claim),
            ("user_iss", &self.user_iss),
            ("user_aud", &self.user_aud),
            ("user_required", &user_required),
            ("close_at_expiry", &close_at_expiry),
            ("user_meta", &self.user_meta),
            ("user_header", &self.user_header),
            ("user_channel", &self.user_channel),
        ];
        // An empty list would allow no channel, while a missing one allows all. A line of a routes file cannot
        // express an empty list, so an empty pattern is written, which is an error.
        let nothing = [String::new()];
        let channels = self.channels.as_deref().map_or(&[][..], |list| if list.is_empty() { &nothing } else { list });
        let lists = [
            ("header", &self.header[..]),
            ("user_jwt", self.user_jwt.all()),
            ("user_proxies", self.user_proxies.all()),
            ("channels", channels),
        ];
        let listed = lists.into_iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        for (name, value) in properties.into_iter().filter_map(|(n, v)| Some((n, v.as_ref()?))).chain(listed) {
            line.push_str(&format!(",{name}={}", quote(value)));
        }
        for target in self.target.all() {
            line.push(' ');
            line.push_str(target);
        }
        line
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
