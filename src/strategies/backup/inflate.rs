//! Reading gzip: one member or many in a row, as gzip(1) does, but what gzip(1) only warns of is an error.

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::content::is_gzip;

/// Bytes given out at once.
const PIECE: usize = 128 << 10;
/// Window of gzip: 2^15 bytes.
const WINDOW_BITS: u8 = 15;

/// A gzip stream, fed in pieces.
#[derive(Debug)]
pub(super) struct Inflater {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Within a member.
    Member(Box<Decompress>),
    /// Behind a member; what has come of the next one's first bytes.
    Between(Vec<u8>),
    /// In the zeros that tapes and block devices leave behind the last member.
    Padding,
}

impl Inflater {
    /// At the beginning of a stream.
    pub(super) fn new() -> Self {
        Inflater { state: member() }
    }

    /// Reads all of `input`, giving what comes out of it to `give`, which returns false to stop.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub(super) fn feed(&mut self, input: &[u8], give: &mut dyn FnMut(Bytes) -> bool) -> Result<(), String> {
        let mut input = input.to_vec();
        let mut at = 0;
        while at < input.len() {
            match &mut self.state {
                State::Member(decompress) => {
                    let (read, ended) = inflate(decompress, &input[at..], give)?;
                    at += read;
                    if ended {
                        self.state = State::Between(Vec::new());
                    }
                }
                State::Between(first) => {
                    first.push(input[at]);
                    at += 1;
                    if first.iter().all(|byte| *byte == 0) {
                        self.state = State::Padding;
                    } else if first.len() == 4 {
                        if !is_gzip(first) {
                            return Err(GARBAGE.to_owned());
                        }
                        // The new member wants its header back.
                        let header = std::mem::take(first);
                        input.splice(..at, header);
                        at = 0;
                        self.state = member();
                    }
                }
                State::Padding if input[at..].iter().all(|byte| *byte == 0) => return Ok(()),
                State::Padding => return Err(GARBAGE.to_owned()),
            }
        }
        Ok(())
    }

    /// # Errors
    /// The stream cannot end here.
    pub(super) fn finish(self) -> Result<(), String> {
        match self.state {
            State::Member(_) => Err("the gzip stream breaks off: its end is missing".to_owned()),
            State::Between(first) if !first.is_empty() => Err(GARBAGE.to_owned()),
            State::Between(_) | State::Padding => Ok(()),
        }
    }
}

const GARBAGE: &str = "there is something behind the end of the gzip stream that does not belong to it";

fn member() -> State {
    State::Member(Box::new(Decompress::new_gzip(WINDOW_BITS)))
}

/// Returns how much was read, and whether the member ended. Checks its CRC and size.
fn inflate(decompress: &mut Decompress, input: &[u8], give: &mut dyn FnMut(Bytes) -> bool) -> Result<(usize, bool), String> {
    let mut read = 0;
    loop {
        let mut out = Vec::with_capacity(PIECE);
        let before = decompress.total_in();
        let status = decompress.decompress_vec(&input[read..], &mut out, FlushDecompress::None);
        let status = status.map_err(|error| format!("the gzip stream is damaged: {}", error.message().unwrap_or("wrong data")))?;
        read += usize::try_from(decompress.total_in() - before).unwrap_or(usize::MAX);
        let full = out.len() == out.capacity();
        if !out.is_empty() && !give(out.into()) {
            return Ok((input.len(), false));
        }
        if status == Status::StreamEnd {
            return Ok((read, true));
        }
        if read == input.len() && !full {
            return Ok((read, false));
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
        let mut inflater = Inflater::new();
        for piece in pieces {
            inflater.feed(piece, &mut |bytes| {
                out.extend_from_slice(&bytes);
                true
            })?;
        }
        inflater.finish().map(|()| out)
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

    proptest! {
        #[test]
        fn members_in_any_pieces_are_their_content(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), size in 1..50_usize) {
            let stream = contents.iter().map(|content| gzip(content)).collect::<Vec<_>>().concat();
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            prop_assert_eq!(read(&pieces).unwrap(), contents.concat());
        }
    }
}
