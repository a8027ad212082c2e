use super::*;
use proptest::prelude::*;

const CHAT: [&str; 3] = ["conversation{id}", "user{user}", "conversation{id}-user{user}"];

fn rule(patterns: &[&str]) -> ChannelRule {
    ChannelRule::parse(patterns).unwrap()
}

fn error(patterns: &[&str]) -> String {
    ChannelRule::parse(patterns).unwrap_err().to_string()
}

#[test]
fn a_template_is_filled_with_the_user_as_it_is() {
    let template = NameTemplate::parse("user{user}").unwrap();
    assert_eq!((template.fill("7").as_str(), template.to_string().as_str()), ("user7", "user{user}"));
    assert_eq!(NameTemplate::parse("{user}/{user}").unwrap().fill("{user}*"), "{user}*/{user}*");
    for bad in ["", "user", "{id}", "{user}{id}", "{user", "user}", "{user}}", "{}{user}", "{{user}}", "{User}"] {
        assert!(NameTemplate::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn clients_hold_what_is_theirs_and_everybodys() {
    let rule = rule(&CHAT);
    let seven = Some("7");
    assert!(rule.admits("conversation5", seven) && rule.admits("conversation5", None));
    assert!(rule.admits("user7", seven) && rule.admits("conversation5-user7", seven));
    assert!(!rule.admits("user8", seven) && !rule.admits("user77", seven) && !rule.admits("user", seven));
    assert!(!rule.admits("news", seven) && !rule.admits("", seven) && !rule.admits("conversation", seven));
    assert!(!rule.admits("user7", None) && !rule.admits("userNone", None));
}

#[test]
fn what_reads_as_another_users_is_refused_although_another_pattern_fits_it() {
    let rule = rule(&CHAT);
    assert!(!rule.admits("conversation5-user7", Some("9")) && !rule.admits("conversation5-user7", None));
    // A user is never empty, so this name belongs to no user.
    assert!(rule.admits("conversation5-user", Some("9")));
    // The name matches for this user, so it does not matter that it also matches for another user.
    assert!(rule.admits("conversation5-user7-user9", Some("9")));
    assert!(rule.admits("conversation5-user7-user9", Some("7-user9")));
    assert!(!rule.admits("conversation5-user7-user9", Some("7")));
}

#[test]
fn nobody_is_not_the_user_without_a_name() {
    let rule = rule(&["user{user}", "user{user}x"]);
    assert!(!rule.admits("user", Some("")) && !rule.admits("user", None) && !rule.admits("userx", Some("")));
}

#[test]
fn a_user_is_only_text() {
    let rule = rule(&CHAT);
    assert!(rule.admits("user{id}", Some("{id}")) && !rule.admits("userabc", Some("{id}")));
    assert!(rule.admits("user*", Some("*")) && !rule.admits("userabc", Some("*")));
    assert!(rule.admits("user{user}", Some("{user}")) && !rule.admits("user{user}", Some("7")));
    assert!(rule.admits("userß€", Some("ß€")) && !rule.admits("userß", Some("ß€")));
}

#[test]
fn a_repeated_user_is_the_same_each_time() {
    let twice = rule(&["{user}/{user}", "{any}"]);
    assert!(twice.admits("7/7", Some("7")) && !twice.admits("8/8", Some("7")) && twice.admits("7/8", Some("7")));
    let between = rule(&["a{user}-{id}-{user}", "{any}"]);
    assert!(between.admits("a7-x-7", Some("7")) && !between.admits("a8-x-8", Some("7")));
    assert!(between.admits("a7-x-8", Some("9")) && between.admits("a7--7", Some("9")));
    let last = rule(&["{id}:{user}:{user}.", "{any}"]);
    assert!(!last.admits("é:ü:ü.", Some("7")) && last.admits("é:ü:u.", Some("7")) && last.admits("é:7:7.", Some("7")));
}

#[test]
fn a_placeholder_is_one_or_more_characters() {
    let rule = rule(&["a{x}b{x}", "{head}-tail", "plain"]);
    assert!(rule.admits("aébü", None) && rule.admits("abbb", None) && rule.admits("aebb", None));
    assert!(!rule.admits("abb", None) && !rule.admits("axb", None) && !rule.admits("-tail", None));
    assert!(rule.admits("--tail", None) && rule.admits("plain", None) && !rule.admits("plain ", None));
}

#[test]
fn without_patterns_nothing_is_admitted() {
    let nothing = rule(&[]);
    assert!(!nothing.admits("", None) && !nothing.admits("a", Some("a")) && !nothing.names_users());
    assert!(nothing.with("a{user}").unwrap().names_users() && !rule(&["a{b}"]).names_users());
}

#[test]
fn patterns_come_and_go() {
    let one = rule(&["a{id}", "a{id}"]);
    assert_eq!(one.patterns().collect::<Vec<_>>(), ["a{id}"]);
    let two = one.with("b").unwrap();
    assert_eq!(two.patterns().collect::<Vec<_>>(), ["a{id}", "b"]);
    assert_eq!(two.with("b"), Ok(two.clone()));
    assert_eq!((two.without("b"), two.without("c")), (Some(one.clone()), None));
    assert_eq!(one.without("a{id}"), Some(rule(&[])));
    assert!(two.with("b{").is_err());
}

#[test]
fn a_wrong_pattern_is_named() {
    let wrong = [
        "a{",
        "a{b",
        "a}",
        "a{}",
        "{{a}}",
        "{a}}",
        "{a}{b}",
        "x{user}{b}",
        "{a b}",
        "{ user}",
        "{User}",
        "{USER}",
        "{a}-{user}-{user}-{b}",
    ];
    for pattern in wrong {
        assert!(error(&["fine", pattern]).contains(&format!("'{pattern}'")), "{pattern}");
    }
    assert_eq!(error(&[""]), "a pattern must not be empty");
    assert!(ChannelRule::parse(&["{conversationId}-{room_2}", "{a}-{user}-{user}", "{user}.{user}.{a}"]).is_ok());
}

#[test]
fn there_is_an_end_to_patterns() {
    let names: Vec<String> = (0..MAX_PATTERNS).map(|n| format!("a{n}")).collect();
    let full = ChannelRule::parse(&names).unwrap();
    assert!(full.with("a0").is_ok() && full.with("b").unwrap_err().to_string().contains("'b'"));
}

#[test]
fn a_hostile_name_is_judged_in_time() {
    let rule = rule(&["{a}x{b}x{c}x{d}x{e}x{f}y", "x{user}x{a}x{user}x{b}y", "{a}x{user}x{b}x{user}y"]);
    assert!(!rule.admits(&"x".repeat(4000), Some("x")));
}

/// Returns whether a pattern matches `name`, by the plain definition. It is slow and serves as the reference for the
/// test. `user` is the text that an earlier `{user}` has matched, or the user of the client. Without a `user`, `any`
/// says whether the first `{user}` may match any text.
fn defined(parts: &[PatternPart], name: &str, user: Option<&str>, any: bool) -> bool {
    let ends = || name.char_indices().map(|(at, c)| at + c.len_utf8());
    match parts {
        [] => name.is_empty(),
        [PatternPart::Text(text), parts @ ..] => {
            name.strip_prefix(&**text).is_some_and(|rest| defined(parts, rest, user, any))
        }
        [PatternPart::Any, parts @ ..] => ends().any(|end| defined(parts, &name[end..], user, any)),
        [PatternPart::User, parts @ ..] => match user {
            Some(user) => name.strip_prefix(user).is_some_and(|rest| defined(parts, rest, Some(user), any)),
            None => any && ends().any(|end| defined(parts, &name[end..], Some(&name[..end]), any)),
        },
    }
}

fn admitted(patterns: &[String], name: &str, user: Option<&str>) -> bool {
    let patterns: Vec<Vec<PatternPart>> = patterns.iter().map(|text| parts(text).unwrap()).collect();
    let (of_users, plain): (Vec<_>, Vec<_>) = patterns.iter().partition(|parts| parts.contains(&PatternPart::User));
    let theirs = of_users.iter().any(|parts| defined(parts, name, user, false));
    let anybodys = of_users.iter().any(|parts| defined(parts, name, None, true));
    theirs || (!anybodys && plain.iter().any(|parts| defined(parts, name, None, false)))
}

proptest! {
    #[test]
    fn it_is_what_it_is_defined_to_be(
        patterns in prop::collection::vec("[ab]?(\\{(user|x)\\}[aé]{1,2}){0,3}(\\{(user|x)\\})?", 0..4),
        name in "[abé]{0,9}",
        user in prop::option::of("[abé]{1,3}"),
    ) {
        if let Ok(rule) = ChannelRule::parse(&patterns) {
            prop_assert_eq!(rule.admits(&name, user.as_deref()), admitted(&patterns, &name, user.as_deref()));
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error(pattern in "[a{}us er]{0,12}|.{0,12}", name in ".{0,12}", user in ".{0,3}") {
        if let Ok(rule) = ChannelRule::parse(&[&pattern]) {
            prop_assert_eq!(rule.patterns().collect::<Vec<_>>(), [pattern.as_str()]);
            rule.admits(&name, Some(&user));
        }
        if let Ok(template) = NameTemplate::parse(&pattern) {
            prop_assert_eq!(template.to_string(), pattern.clone());
            prop_assert_eq!(template.fill("{user}"), pattern);
        }
    }

    #[test]
    fn a_users_own_name_is_admitted_and_nobody_elses(user in "[a-z{}*é]{1,5}", other in "[a-z{}*é]{1,5}") {
        let rule = rule(&["{all}", "room{id}-user{user}"]);
        let name = format!("room1-user{user}");
        prop_assert!(rule.admits(&name, Some(&user)) && !rule.admits(&name, None));
        prop_assert_eq!(rule.admits(&name, Some(&other)), user == other);
    }
}
