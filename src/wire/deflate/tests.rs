use super::ClientWindow::{Dropped, Kept};
use super::*;

fn answer(offers: &[&str], window: ClientWindow) -> Option<String> {
    negotiate(offers.iter().copied(), window).map(|agreed| agreed.answer)
}

fn accepts(offer: &str) -> bool {
    negotiate([offer], Dropped).is_some()
}

/// Feeds one message in pieces, and returns its decompressed content.
fn inflate(inflate: &mut Decompressor, pieces: &[&[u8]]) -> Result<Vec<u8>, CorruptData> {
    let mut all = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while !input.is_empty() || inflate.is_pending() {
            let mut out = Vec::new();
            input = &input[inflate.feed(input, &mut out)?..];
            assert!(out.len() <= MAX_OUTPUT);
            all.extend(out);
        }
    }
    loop {
        let mut out = Vec::new();
        let done = inflate.finish(&mut out)?;
        assert!(out.len() <= MAX_OUTPUT);
        all.extend(out);
        if done {
            return Ok(all);
        }
    }
}

#[test]
fn answers_say_that_messages_stand_alone() {
    let alone = "permessage-deflate; server_no_context_takeover";
    assert_eq!(answer(&["permessage-deflate"], Kept).unwrap(), alone);
    assert_eq!(answer(&["permessage-deflate"], Dropped).unwrap(), format!("{alone}; client_no_context_takeover"));
    let agreed = negotiate(["permessage-deflate; client_max_window_bits"], Kept).unwrap();
    assert!(agreed.compresses && agreed.window == Kept && agreed.answer == alone);
}

#[test]
fn a_smaller_window_is_agreed_to_but_not_used() {
    for bits in 8..=15 {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let agreed = negotiate([&offer[..]], Dropped).unwrap();
        assert!(agreed.answer.ends_with(&format!("; server_max_window_bits={bits}")) && agreed.window == Dropped);
        assert_eq!(agreed.compresses, bits == 15);
    }
}

#[test]
fn good_parameters_are_accepted() {
    for parameters in [
        "",
        "; client_max_window_bits",
        "; client_max_window_bits=8",
        "; client_max_window_bits=\"15\"",
        "; client_max_window_bits=\"1\\0\"",
        ";server_max_window_bits=10;client_no_context_takeover",
        " ;\tserver_no_context_takeover ; server_max_window_bits = 9 ",
    ] {
        assert!(accepts(&format!("permessage-deflate{parameters}")), "{parameters}");
    }
}

#[test]
fn unknown_repeated_and_bad_parameters_decline_the_offer() {
    for parameters in [
        "foo",
        "foo=1",
        "Server_no_context_takeover",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=+9",
        "server_max_window_bits=271",
        "client_max_window_bits=7",
        "client_max_window_bits=x",
        "client_max_window_bits; client_max_window_bits=9",
        "server_max_window_bits=9; server_max_window_bits=9",
        "client_no_context_takeover; client_no_context_takeover",
        "server_no_context_takeover; server_no_context_takeover",
    ] {
        let offer = format!("permessage-deflate; {parameters}");
        assert!(!accepts(&offer), "{offer}");
        let next = answer(&[&format!("{offer}, permessage-deflate; server_max_window_bits=9")], Dropped);
        assert!(next.unwrap().ends_with("=9"), "{offer}");
    }
}

#[test]
fn other_extensions_are_passed_over() {
    assert!(accepts("x-webkit-deflate-frame, permessage-deflate"));
    assert!(!accepts("foo; a=\"b,c\", permessage-deflate"), "a quoted value is a token");
    assert!(accepts(", foo; a=\"bc\" ,, permessage-deflate,"));
    assert_eq!(answer(&["foo", "bar; a", "permessage-deflate"], Kept), answer(&["permessage-deflate"], Kept));
    assert_eq!(answer(&[], Kept), None);
    assert_eq!(answer(&["", "permessage-deflate2", "perframe-deflate"], Kept), None);
}

#[test]
fn mistakes_in_the_grammar_end_a_field() {
    for bad in [
        "permessage-deflate;",
        "permessage-deflate; =1",
        "permessage-deflate server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"9",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"9\" x",
        "foo/bar, permessage-deflate",
    ] {
        assert!(!accepts(bad), "{bad}");
        assert!(answer(&[bad, "permessage-deflate"], Dropped).is_some(), "{bad}");
    }
}

/// The offers are those of the cases 13.1 to 13.7 of the Autobahn test suite, as its client writes them.
#[test]
fn what_autobahn_offers_is_accepted() {
    let default = "permessage-deflate; client_no_context_takeover; client_max_window_bits";
    for (offer, end, compresses) in [
        (default.to_owned(), "", true),
        (format!("{default}; server_no_context_takeover"), "", true),
        (format!("{default}; server_max_window_bits=9"), "; server_max_window_bits=9", false),
        (format!("{default}; server_max_window_bits=15"), "; server_max_window_bits=15", true),
        (
            format!("{default}; server_no_context_takeover; server_max_window_bits=9"),
            "; server_max_window_bits=9",
            false,
        ),
        (
            format!("{default}; server_no_context_takeover; server_max_window_bits=15"),
            "; server_max_window_bits=15",
            true,
        ),
        (
            format!(
                "{default}; server_no_context_takeover; server_max_window_bits=9, {default}; \
                 server_no_context_takeover, {default}"
            ),
            "; server_max_window_bits=9",
            false,
        ),
    ] {
        let agreed = negotiate([&offer[..]], Dropped).unwrap();
        let start = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!((agreed.answer, agreed.compresses), (format!("{start}{end}"), compresses));
    }
}

/// The messages are the examples in RFC 7692 7.2.3.
#[test]
fn the_examples_of_the_standard_are_read() {
    let alone: [(&[u8], &[u8]); 6] = [
        (b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
        (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
        (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
        (b"\x00", b""),
        (b"", b""),
    ];
    for window in [Dropped, Kept] {
        for (message, content) in alone {
            let mut whole = Decompressor::new(window);
            assert_eq!(inflate(&mut whole, &[message]).unwrap(), content);
            assert_eq!(whole.is_held(), window == Kept && !message.is_empty());
            let bytes: Vec<&[u8]> = message.chunks(1).collect();
            assert_eq!(inflate(&mut whole, &bytes).unwrap(), content);
        }
    }
    let mut kept = Decompressor::new(Kept);
    let messages: [&[u8]; 2] = [b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xf2\x00\x11\x00\x00"];
    assert_eq!(messages.map(|m| inflate(&mut kept, &[m]).unwrap()), [b"Hello", b"Hello"]);
    let mut alone = Decompressor::new(Dropped);
    assert!(inflate(&mut alone, &messages[..1]).is_ok() && inflate(&mut alone, &messages[1..]).is_err());
}

#[test]
fn messages_that_are_cut_short_are_corrupt() {
    let content: Vec<u8> = (0..2000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 25) as u8).collect();
    let message = deflate(&content).unwrap();
    for length in 1..message.len() {
        let cut = inflate(&mut Decompressor::new(Dropped), &[&message[..length]]);
        assert!(cut.is_err() || length == message.len() - 1, "{length}");
    }
    assert_eq!(inflate(&mut Decompressor::new(Dropped), &[&message]).unwrap(), content);
    assert!(inflate(&mut Decompressor::new(Dropped), &[b"\xff\xff\xff"]).is_err());
}

#[test]
fn a_bomb_goes_off_slowly() {
    let content = vec![b'0'; 5 << 20];
    let bomb = deflate(&content).unwrap();
    assert!(bomb.len() < 8000);
    assert!(inflate(&mut Decompressor::new(Dropped), &[&bomb]).unwrap() == content);
}

#[test]
fn inflaters_are_pooled() {
    let message = deflate(b"Hello").unwrap();
    let mut many: Vec<Decompressor> = (0..40).map(|_| Decompressor::new(Dropped)).collect();
    for one in &mut many {
        one.feed(&message, &mut Vec::new()).unwrap();
        assert!(one.is_held());
    }
    for one in &mut many {
        assert!(one.finish(&mut Vec::new()).unwrap() && !one.is_held());
    }
    assert_eq!(INFLATERS.with_borrow(Vec::len), POOLED);
}

#[test]
fn messages_stand_alone() {
    for content in [&b""[..], b"a", b"Hello", &[b'x'; 70_000], &b"to be or not to be, ".repeat(5000)] {
        let once = deflate(content).unwrap();
        assert_eq!(deflate(content).unwrap(), once);
        assert_eq!(inflate(&mut Decompressor::new(Dropped), &[&once]).unwrap(), content);
    }
}
