//! Reading gzip: one member or many in a row, as gzip(1) does, but what gzip(1) only warns of is an error.

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::content::is_gzip;

/// Bytes given out at once: many, since decoding is slow at a buffer's end.
const PIECE: usize = 256 << 10;
/// Window of gzip: 2^15 bytes.
const WINDOW_BITS: u8 = 15;

/// A gzip stream, fed in pieces.
#[derive(Debug)]
pub(super) struct Inflater {
    state: State,
    /// Content that has not been given out.
    out: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// Within a member.
    Member(Box<Decompress>),
    /// Behind a member; what has come of the next one's first bytes.
    Between(Vec<u8>),
    /// In the zeros that tapes and block devices leave behind the last member.
    Padding,
    /// Nobody wants the rest.
    Unwanted,
}

impl Inflater {
    /// At the beginning of a stream.
    pub(super) fn new() -> Self {
        Inflater { state: State::Member(member()), out: Vec::with_capacity(PIECE) }
    }

    /// Reads all of `input`, giving what comes out of it to `give`, which returns false to stop. The last bytes wait for the next call.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub(super) fn feed(&mut self, mut input: &[u8], give: &mut dyn FnMut(Bytes) -> bool) -> Result<(), String> {
        while let Some(byte) = input.first() {
            match &mut self.state {
                State::Member(decompress) => {
                    let (read, next) = inflate(decompress, input, &mut self.out, give)?;
                    input = input.get(read..).unwrap_or_default();
                    match next {
                        Next::Input => {}
                        Next::Member => self.state = State::Between(Vec::new()),
                        Next::Nothing => self.state = State::Unwanted,
                    }
                }
                State::Between(first) => {
                    first.push(*byte);
                    input = &input[1..];
                    if first.iter().all(|byte| *byte == 0) {
                        self.state = State::Padding;
                    } else if first.len() == 4 {
                        if !is_gzip(first) {
                            return Err(GARBAGE.to_owned());
                        }
                        let mut decompress = member();
                        inflate(&mut decompress, first, &mut self.out, give)?;
                        self.state = State::Member(decompress);
                    }
                }
                State::Padding if input.iter().all(|byte| *byte == 0) => return Ok(()),
                State::Padding => return Err(GARBAGE.to_owned()),
                State::Unwanted => return Ok(()),
            }
        }
        Ok(())
    }

    /// Gives out the last bytes.
    ///
    /// # Errors
    /// The stream cannot end here.
    pub(super) fn finish(self, give: &mut dyn FnMut(Bytes) -> bool) -> Result<(), String> {
        match self.state {
            State::Member(_) => return Err("the gzip stream breaks off: its end is missing".to_owned()),
            State::Between(first) if !first.is_empty() => return Err(GARBAGE.to_owned()),
            State::Between(_) | State::Padding | State::Unwanted => {}
        }
        if !self.out.is_empty() {
            give(self.out.into());
        }
        Ok(())
    }
}

const GARBAGE: &str = "there is something behind the end of the gzip stream that does not belong to it";

fn member() -> Box<Decompress> {
    Box::new(Decompress::new_gzip(WINDOW_BITS))
}

/// What a member waits for.
enum Next {
    /// More of it.
    Input,
    /// It has ended; its CRC and size are right.
    Member,
    /// Nobody wants the rest.
    Nothing,
}

/// Returns how much was read, and what for.
fn inflate(
    decompress: &mut Decompress,
    input: &[u8],
    out: &mut Vec<u8>,
    give: &mut dyn FnMut(Bytes) -> bool,
) -> Result<(usize, Next), String> {
    let mut read = 0;
    loop {
        let before = decompress.total_in();
        let status = decompress.decompress_vec(input.get(read..).unwrap_or_default(), out, FlushDecompress::None);
        let status = status.map_err(|error| format!("the gzip stream is damaged: {}", error.message().unwrap_or("wrong data")))?;
        read += usize::try_from(decompress.total_in() - before).unwrap_or(usize::MAX);
        let full = out.len() == out.capacity();
        if full && !give(std::mem::replace(out, Vec::with_capacity(PIECE)).into()) {
            return Ok((read, Next::Nothing));
        }
        if status == Status::StreamEnd {
            return Ok((read, Next::Member));
        }
        if read == input.len() && !full {
            return Ok((read, Next::Input));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut give = |bytes: Bytes| {
            out.extend_from_slice(&bytes);
            true
        };
        let mut inflater = Inflater::new();
        for piece in pieces {
            inflater.feed(piece, &mut give)?;
        }
        inflater.finish(&mut give).map(|()| out)
    }

    #[test]
    fn what_is_wrong_is_said() {
        let whole = gzip(&b"content ".repeat(40_000));
        let error = |bytes: &[u8]| read(&[bytes]).unwrap_err();
        assert!(error(&whole[..whole.len() - 1]).contains("breaks off"));
        assert!(error(&[]).contains("breaks off"));
        assert!(error(&[&whole[..], b"x"].concat()).contains("behind the end"));
        assert!(error(&[&whole[..], b"\0\0\0x"].concat()).contains("behind the end"));
        assert!(error(&[&whole[..], &whole[..20]].concat()).contains("breaks off"));
        let mut flipped = whole.clone();
        let last = flipped.len() - 1;
        flipped[last - 5] ^= 1;
        assert!(error(&flipped).contains("damaged"), "{}", error(&flipped));
        assert_eq!(read(&[&[&whole[..], &[0; 512]].concat()]).unwrap().len(), 320_000);
    }

    /// A member that ends with the buffer, and one that ends just behind it.
    #[test]
    fn content_of_the_buffers_size() {
        for size in [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let member = gzip(&content);
            assert!(read(&[&member]).unwrap() == content, "{size}");
            assert!(read(&[&member, &member]).unwrap() == content.repeat(2), "{size}");
        }
    }

    #[test]
    fn nothing_is_read_for_nobody() {
        let mut inflater = Inflater::new();
        let mut calls = 0;
        let mut give = |_: Bytes| {
            calls += 1;
            false
        };
        let member = gzip(&vec![7; 3 * PIECE]);
        inflater.feed(&member, &mut give).unwrap();
        inflater.feed(b"whatever comes", &mut give).unwrap();
        inflater.finish(&mut give).unwrap();
        assert_eq!(calls, 1);
    }

    proptest! {
        #[test]
        fn members_in_any_pieces_are_their_content(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), size in 1..50_usize) {
            let stream = contents.iter().map(|content| gzip(content)).collect::<Vec<_>>().concat();
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            prop_assert_eq!(read(&pieces).unwrap(), contents.concat());
        }
    }
}
