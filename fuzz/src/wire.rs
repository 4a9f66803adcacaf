//! What comes on a machine's line, in either direction.

use koskit_wire::{Decoder, Event, Frame, Kind, Piece, Request, encode};

/// The bytes of a line: however they are cut, the same comes out of it; and what was understood
/// can be said again.
pub fn wire(data: &[u8]) {
    let whole = pieces(data, data.len().max(1));
    assert_eq!(pieces(data, 1), whole);
    for (kind, number, payload) in whole.frames {
        let mut again = Vec::new();
        encode(kind, number, &[&payload], |byte| again.push(byte));
        let back = pieces(&again, 7);
        assert_eq!(back.frames, [(kind, number, payload.clone())]);
        assert_eq!((back.text.len(), back.damaged), (0, 0));
        if let Some(request) = Request::parse(&payload) {
            assert_eq!(request.encode(|parts| parts.concat()), payload);
        }
        if let Some(event) = std::str::from_utf8(&payload).ok().and_then(Event::parse) {
            assert_eq!(Event::parse(&event.to_string()), Some(event));
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Pieces {
    frames: Vec<(Kind, u32, Vec<u8>)>,
    text: Vec<u8>,
    damaged: usize,
}

fn pieces(data: &[u8], cut: usize) -> Pieces {
    let (mut decoder, mut all) = (Decoder::new(), Pieces::default());
    for bytes in data.chunks(cut) {
        decoder.push(bytes, |piece| match piece {
            Piece::Frame(Frame { kind, number, payload }) => {
                all.frames.push((kind, number, payload.to_vec()));
            }
            Piece::Text(text) => all.text.extend_from_slice(text),
            Piece::Damaged => all.damaged += 1,
        });
    }
    all
}
