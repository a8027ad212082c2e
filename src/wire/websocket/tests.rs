use super::super::deflate::{self, ClientWindow};
use super::*;
use MessageKind::{Binary, Ping, Pong, Text};
use proptest::prelude::*;

const KEY: [u8; 4] = [0xa1, 0x02, 0x7f, 0xc8];

/// Returns a whole message as a client sends it.
fn masked(kind: MessageKind, content: &[u8]) -> Vec<u8> {
    Fragment::whole(kind, content).masked(KEY)
}

/// Returns a client's frame with this first byte.
fn raw(lead: u8, payload: &[u8]) -> Vec<u8> {
    let kind = if payload.is_empty() { Text } else { Binary };
    let mut frame = masked(kind, payload);
    frame[0] = lead;
    frame
}

/// Feeds all bytes to the decoder, in pieces that have these lengths in turn. Returns all parts, and the violation
/// that ended them.
fn read(decoder: &mut FrameDecoder, bytes: &[u8], lengths: &[usize]) -> (Vec<FramePart>, Option<ProtocolViolation>) {
    let mut parts = Vec::new();
    let mut rest = bytes;
    for length in lengths.iter().cycle() {
        let mut piece = rest.split_off(..rest.len().min(*length)).unwrap();
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(part)) => parts.push(part),
                Ok(None) => break,
                Err(violation) => return (parts, Some(violation)),
            }
        }
        assert!(piece.is_empty());
        if rest.is_empty() {
            return (parts, None);
        }
    }
    (parts, None)
}

fn from_client(frames: &[Vec<u8>]) -> Result<Vec<FramePart>, ProtocolViolation> {
    let (parts, violation) = read(
        &mut FrameDecoder::of_client(Some(Decompressor::new(ClientWindow::Dropped))),
        &frames.concat(),
        &[usize::MAX],
    );
    violation.map_or(Ok(parts), Err)
}

fn rule(frames: &[Vec<u8>]) -> &'static str {
    match from_client(frames) {
        Err(ProtocolViolation::Protocol(rule)) => rule,
        other => panic!("{other:?}"),
    }
}

fn data(kind: MessageKind, content: &[u8], first: bool, last: bool) -> FramePart {
    FramePart::Data { kind, content: content.to_vec(), first, last }
}

/// Joins parts into whole messages. Checks that each message begins and ends once, and that only its last piece may
/// be empty.
fn join(parts: Vec<FramePart>) -> Vec<FramePart> {
    let mut whole = Vec::new();
    let mut open: Option<(MessageKind, Vec<u8>)> = None;
    for part in parts {
        match part {
            FramePart::Data { kind, content, first, last } => {
                assert_eq!(first, open.is_none());
                assert!(last || !content.is_empty());
                assert!(content.len() <= MAX_OUTPUT);
                let (begun, mut message) = open.take().unwrap_or((kind, Vec::new()));
                assert_eq!(begun, kind);
                message.extend(content);
                if last {
                    whole.push(data(kind, &message, true, true));
                } else {
                    open = Some((kind, message));
                }
            }
            control => whole.push(control),
        }
    }
    whole
}

#[test]
fn a_decoder_is_small_and_holds_nothing_while_idle() {
    assert!(size_of::<FrameDecoder>() <= 96, "{}", size_of::<FrameDecoder>());
    let mut decoder = FrameDecoder::of_client(Some(Decompressor::new(ClientWindow::Dropped)));
    let content = br#"{"one":1,"two":2,"three":3}"#.repeat(20);
    let compressed = deflate::deflate(&content).unwrap();
    let frames = [raw(0xc1, &compressed), raw(0x89, b"ping"), raw(0x82, b"xyz")].concat();
    let (parts, violation) = read(&mut decoder, &frames, &[7]);
    assert_eq!(violation, None);
    assert_eq!(
        join(parts),
        [data(Text, &content, true, true), FramePart::Ping(b"ping".into()), data(Binary, b"xyz", true, true)]
    );
    assert!(decoder.control.is_empty() && !decoder.inflate.unwrap().is_held());
}

#[test]
fn lengths_are_in_their_shortest_form() {
    for (head, good) in [
        (&b"\x82\xfe\x00\x7d"[..], false),
        (b"\x82\xfe\x00\x7e", true),
        (b"\x82\xff\0\0\0\0\0\0\xff\xff", false),
        (b"\x82\xff\0\0\0\0\0\x01\0\0", true),
        (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", true),
        (b"\x82\xff\x80\0\0\0\0\0\0\0", false),
    ] {
        let parts = from_client(&[[head, &KEY].concat(), vec![0; 4]]);
        assert_eq!(parts, if good { Ok(vec![data(Binary, &KEY, true, false)]) } else { parts.clone() });
        assert_eq!(parts.is_ok(), good, "{head:?}");
    }
    assert_eq!(rule(&[[&b"\x82\xff\x80\0\0\0\0\0\0\0"[..], &KEY].concat()]), "frame length has its top bit set");
}

#[test]
fn clients_mask_and_origins_do_not() {
    assert_eq!(rule(&[frame(Text, b"a").to_vec()]), "frame is not masked");
    let mut origin = FrameDecoder::of_origin();
    assert_eq!(origin.next(&mut &frame(Text, b"a")[..]), Ok(Some(data(Text, b"a", true, true))));
    assert_eq!(origin.next(&mut &masked(Text, b"a")[..]), Err(ProtocolViolation::Protocol("frame is masked")));
}

#[test]
fn reserved_bits_and_opcodes_are_refused() {
    for lead in (0..=0xff).filter(|lead: &u8| lead & 0x30 != 0) {
        assert!(from_client(&[raw(lead, b"")]).is_err(), "{lead:x}");
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(rule(&[raw(0x80 | opcode, b"")]), "reserved opcode");
    }
    let reserved = "reserved bit is set";
    assert_eq!(rule(&[raw(0xc9, b"")]), reserved);
    assert_eq!(rule(&[raw(0x01, b"a"), raw(0xc0, b"")]), reserved);
    let mut plain = FrameDecoder::of_client(None);
    assert_eq!(plain.next(&mut &raw(0xc1, b"\0")[..]), Err(ProtocolViolation::Protocol(reserved)));
    assert_eq!(from_client(&[raw(0xc1, b"\0")]), Ok(vec![data(Text, b"", true, true)]));
}

#[test]
fn control_frames_are_short_and_whole() {
    assert_eq!(rule(&[raw(0x09, b"")]), "control frame is fragmented");
    assert_eq!(rule(&[raw(0x89, &[0; 126])]), "control frame is too long");
    let parts = from_client(&[raw(0x89, &[7; 125]), raw(0x8a, b"")]);
    assert_eq!(parts, Ok(vec![FramePart::Ping(vec![7; 125]), FramePart::Pong(vec![])]));
}

#[test]
fn fragments_make_a_message() {
    assert_eq!(rule(&[raw(0x80, b"")]), "continuation frame without a message");
    assert_eq!(rule(&[raw(0x02, b"a"), raw(0x82, b"b")]), "new message before the end of the previous one");
    assert_eq!(rule(&[raw(0x82, b"a"), raw(0x80, b"b")]), "continuation frame without a message");
    let parts = from_client(&[raw(0x01, b""), raw(0x00, b"a"), raw(0x89, b"p"), raw(0x00, b""), raw(0x80, b"")]);
    let expected = vec![data(Text, b"a", true, false), FramePart::Ping(b"p".into()), data(Text, b"", false, true)];
    assert_eq!(parts, Ok(expected));
}

#[test]
fn nothing_is_read_after_a_close_or_a_violation() {
    let close = raw(0x88, b"\x03\xe8bye");
    let expected = FramePart::Close(Some(CloseReason::new(1000, "bye")));
    assert_eq!(from_client(&[close, raw(0xff, b"junk")]), Ok(vec![expected]));
    assert_eq!(from_client(&[raw(0x88, b""), raw(0x81, b"a")]), Ok(vec![FramePart::Close(None)]));
    let mut decoder = FrameDecoder::of_client(None);
    assert!(decoder.next(&mut &b"\x80\x00"[..]).is_err());
    let mut rest = &raw(0x81, b"a")[..];
    assert!(decoder.next(&mut rest) == Ok(None) && rest.is_empty());
}

#[test]
fn close_frames_are_checked() {
    assert_eq!(rule(&[raw(0x88, b"\x03")]), "invalid close code");
    assert_eq!(rule(&[raw(0x88, b"\x03\xed")]), "invalid close code");
    assert_eq!(from_client(&[raw(0x88, b"\x03\xe8\xff")]), Err(ProtocolViolation::Text));
}

#[test]
fn violations_have_codes() {
    assert_eq!(ProtocolViolation::Protocol("x").reason(), CloseReason::new(1002, "x"));
    assert_eq!([ProtocolViolation::Text, ProtocolViolation::Deflate].map(|v| v.reason().code), [1007, 1007]);
    assert_eq!(ProtocolViolation::Text.to_string(), "text is not UTF-8");
}

/// Case 6.4 of the Autobahn test suite: text is refused at the first byte that cannot be UTF-8, even in the middle of
/// a frame.
#[test]
fn bad_text_is_refused_at_its_first_bad_byte() {
    let start = "κόσμε".as_bytes();
    for (bad, at) in [
        (&b"\xf4\x90\x80\x80"[..], 2),
        (b"\xed\xa0\x80", 2),
        (b"\xc0\xaf", 1),
        (b"\xf8\x88\x80\x80\x80", 1),
        (b"\xe0\x80\xaf", 2),
        (b"\xce\x41", 2),
        (b"\xf0\x9f\x98\x41", 4),
        (b"\x80", 1),
    ] {
        let content = [start, bad, b"edited"].concat();
        for mut frames in
            [raw(0x81, &content), content.iter().enumerate().flat_map(|(i, b)| raw(u8::from(i == 0), &[*b])).collect()]
        {
            let mut decoder = FrameDecoder::of_client(None);
            let mut valid = 0;
            let refused = loop {
                let byte = frames.remove(0);
                match decoder.next(&mut &[byte][..]) {
                    Ok(Some(FramePart::Data { content, .. })) => valid += content.len(),
                    Ok(_) => {}
                    Err(violation) => break violation,
                }
            };
            assert_eq!((refused, valid), (ProtocolViolation::Text, start.len() + at - 1), "{bad:?}");
        }
    }
    assert_eq!(from_client(&[raw(0x81, b"\xce")]), Err(ProtocolViolation::Text));
    assert_eq!(from_client(&[raw(0x01, b"\xce"), raw(0x80, b"")]), Err(ProtocolViolation::Text));
    assert!(from_client(&[raw(0x01, b"\xce"), raw(0x80, b"\xba")]).is_ok());
    assert!(from_client(&[raw(0x82, b"\xce\xff")]).is_ok());
}

#[test]
fn compressed_messages_are_checked() {
    assert_eq!(from_client(&[raw(0xc2, b"\xff\xff\xff")]), Err(ProtocolViolation::Deflate));
    let bad = deflate::deflate(&[b'a', 0xff].repeat(50)).unwrap();
    assert_eq!(from_client(&[raw(0xc1, &bad)]), Err(ProtocolViolation::Text));
    assert_eq!(from_client(&[raw(0xc2, &bad)]), Ok(vec![data(Binary, &[b'a', 0xff].repeat(50), true, true)]));
    let cut = deflate::deflate("ä".as_bytes()).unwrap();
    assert!(from_client(&[raw(0xc1, &cut)]).is_ok());
    let half = deflate::deflate(b"\xc3").unwrap();
    assert_eq!(from_client(&[raw(0xc1, &half)]), Err(ProtocolViolation::Text));
}

#[test]
fn a_bomb_is_given_in_pieces() {
    for length in [MAX_OUTPUT - 1, MAX_OUTPUT, MAX_OUTPUT + 1, 3 * MAX_OUTPUT, 5 << 20] {
        let bomb = deflate::deflate(&vec![b'z'; length]).unwrap();
        let (start, end) = bomb.split_at(bomb.len() - 2);
        let frames = [raw(0x42, start), raw(0x80, end), raw(0x89, b"")].concat();
        let mut decoder = FrameDecoder::of_client(Some(Decompressor::new(ClientWindow::Dropped)));
        let (mut input, mut total, mut ended) = (&frames[..], 0, false);
        while let Some(part) = decoder.next(&mut input).unwrap() {
            match part {
                FramePart::Data { content, first, last, .. } => {
                    assert!(content.len() <= MAX_OUTPUT && content.capacity() <= MAX_OUTPUT);
                    assert_eq!(first, total == 0);
                    total += content.len();
                    ended |= last;
                }
                other => assert!(ended && other == FramePart::Ping(vec![])),
            }
        }
        assert!(ended && total == length && input.is_empty());
    }
}

#[test]
fn frames_are_rendered() {
    assert_eq!(&frame(Text, b"Hello")[..], b"\x81\x05Hello");
    assert_eq!(&Fragment { last: false, ..Fragment::whole(Text, b"Hel") }.frame()[..], b"\x01\x03Hel");
    assert_eq!(&Fragment { first: false, ..Fragment::whole(Text, b"lo") }.frame()[..], b"\x80\x02lo");
    assert_eq!(
        Fragment::whole(Text, b"Hello").masked([0x37, 0xfa, 0x21, 0x3d]),
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
    );
    assert_eq!((&frame(Ping, b"")[..], &frame(Pong, b"a")[..]), (&b"\x89\0"[..], &b"\x8a\x01a"[..]));
    assert_eq!(&frame(Binary, &[0; 126])[..4], b"\x82\x7e\0\x7e");
    assert_eq!(&frame(Binary, &[0; 65_535])[..4], b"\x82\x7e\xff\xff");
    assert_eq!(&frame(Binary, &[0; 65_536])[..10], b"\x82\x7f\0\0\0\0\0\x01\0\0");
    assert_eq!(&close(None)[..], b"\x88\0");
    let bye = CloseReason::new(1000, "bye");
    assert_eq!(&close(Some(&bye))[..], b"\x88\x05\x03\xe8bye");
    assert_eq!(from_client(&[masked_close(Some(&bye), KEY)]), Ok(vec![FramePart::Close(Some(bye))]));
}

#[test]
fn messages_are_compressed_where_it_helps() {
    let content = br#"{"name":"value"}"#.repeat(8);
    let message = RenderedMessage::new(Text, &content);
    assert_eq!(message.content().as_ptr(), message.plain()[2..].as_ptr().wrapping_add(2));
    assert_eq!((message.kind(), message.len(), message.is_empty()), (Text, content.len() + 4, false));
    assert!(message.deflated().len() < 40 && message.deflated()[0] == 0xc1);
    assert_eq!(message.deflated().as_ptr(), message.select(MessageForm::Deflated).as_ptr());
    assert_eq!(message.select(MessageForm::Plain), message.plain());
    for (kind, content) in [(Ping, &[b'a'; 100][..]), (Text, &[b'a'; 31]), (Binary, &(0..255).collect::<Vec<u8>>())] {
        let message = RenderedMessage::new(kind, content);
        assert_eq!(message.deflated().as_ptr(), message.plain().as_ptr());
    }
    assert!(RenderedMessage::new(Text, b"").is_empty());
}

/// A message or a control frame: its kind, its content, whether it is compressed, and the places at which it is cut
/// into frames.
type Sent = (MessageKind, Vec<u8>, bool, Vec<prop::sample::Index>);

fn sent() -> impl Strategy<Value = Sent> {
    let short = || prop::collection::vec(any::<u8>(), 0..=125);
    let content = prop_oneof![
        4 => "\\PC{0,80}".prop_map(|text| (Text, text.into_bytes())),
        3 => prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (Binary, bytes)),
        2 => (any::<[u8; 4]>(), 1..20_000_usize).prop_map(|(bytes, times)| (Binary, bytes.repeat(times))),
        1 => short().prop_map(|bytes| (Ping, bytes)),
        1 => short().prop_map(|bytes| (Pong, bytes)),
    ];
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    (content, any::<bool>(), cuts).prop_map(|((kind, bytes), compressed, cuts)| (kind, bytes, compressed, cuts))
}

fn window() -> impl Strategy<Value = ClientWindow> {
    prop_oneof![Just(ClientWindow::Kept), Just(ClientWindow::Dropped)]
}

/// Returns the frames of a message, with a ping after each but the last.
fn cut((kind, content, compressed, cuts): &Sent) -> Vec<u8> {
    if kind.is_control() {
        return masked(*kind, content);
    }
    let content = if *compressed { deflate::deflate(content).unwrap() } else { content.clone() };
    let mut places: Vec<usize> = cuts.iter().map(|i| i.index(content.len() + 1)).chain([content.len()]).collect();
    places.sort_unstable();
    let mut out = Vec::new();
    for (i, end) in places.iter().enumerate() {
        let start = if i == 0 { 0 } else { places[i - 1] };
        let piece = Fragment { kind: *kind, content: &content[start..*end], first: i == 0, last: i == cuts.len() };
        let mut frame = piece.masked(KEY);
        if i == 0 && *compressed {
            frame[0] |= 0x40;
        }
        out.extend(frame);
        if i < cuts.len() {
            out.extend(masked(Ping, &[i as u8]));
        }
    }
    out
}

fn expected(sent: &[Sent]) -> Vec<FramePart> {
    let mut out = Vec::new();
    for (kind, content, _, cuts) in sent {
        match kind {
            Ping => out.push(FramePart::Ping(content.clone())),
            Pong => out.push(FramePart::Pong(content.clone())),
            kind => {
                out.extend((0..cuts.len()).map(|i| FramePart::Ping(vec![i as u8])));
                out.push(data(*kind, content, true, true));
            }
        }
    }
    out
}

/// Generates bytes that are valid frames for the most part.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let lead = prop_oneof![
        prop::sample::select(vec![0x01, 0x02, 0x00, 0x80, 0x81, 0x82, 0xc1, 0xc2, 0x41, 0x88, 0x89]),
        any::<u8>()
    ];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        "\\PC{0,9}".prop_map(String::into_bytes),
        "\\PC{0,30}".prop_map(|text| deflate::deflate(text.as_bytes()).unwrap())
    ];
    let frame = (lead, payload).prop_map(|(lead, payload)| raw(lead, &payload));
    let junk = prop::collection::vec(any::<u8>(), 0..20);
    prop::collection::vec(prop_oneof![9 => frame, 1 => junk], 0..8).prop_map(|all| all.concat())
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..5_usize, 1..3000_usize], 1..6)
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in(sent in prop::collection::vec(sent(), 0..8), lengths in lengths(), window in window()) {
        let bytes: Vec<u8> = sent.iter().flat_map(cut).collect();
        let mut decoder = FrameDecoder::of_client(Some(Decompressor::new(window)));
        let (parts, violation) = read(&mut decoder, &bytes, &lengths);
        prop_assert_eq!(violation, None);
        prop_assert_eq!(join(parts), expected(&sent));
        prop_assert!(decoder.control.is_empty() && decoder.state == DecoderState::Head);
    }

    #[test]
    fn whatever_comes_is_read_the_same_in_any_pieces(bytes in noise(), lengths in lengths(), window in window()) {
        let (whole, one) = read(&mut FrameDecoder::of_client(Some(Decompressor::new(window))), &bytes, &[usize::MAX]);
        let (pieces, other) = read(&mut FrameDecoder::of_client(Some(Decompressor::new(window))), &bytes, &lengths);
        prop_assert_eq!(one.is_some(), other.is_some());
        prop_assert_eq!(join(whole), join(pieces));
    }

    #[test]
    fn renderings_are_read_by_an_origins_decoder(bytes: [u8; 3], times in 0..25_000_usize) {
        let content = bytes.repeat(times);
        let parts = read(&mut FrameDecoder::of_origin(), RenderedMessage::new(Binary, &content).plain(), &[999]).0;
        prop_assert_eq!(join(parts), [data(Binary, &content, true, true)]);
    }

    #[test]
    fn masking_twice_is_nothing(content in prop::collection::vec(any::<u8>(), 0..100), key: [u8; 4]) {
        let mut bytes = content.clone();
        mask(&mut bytes, key);
        let slow: Vec<u8> = content.iter().zip(key.into_iter().cycle()).map(|(b, k)| b ^ k).collect();
        prop_assert_eq!(bytes, slow);
    }
}
