//! Bytes of a file as text and back, without loss: configuration files are not always UTF-8.

/// Bytes that are no UTF-8, all of them from 0x80, become the last characters of the last private plane.
const FIRST: u32 = 0x0010_ff00;
const LOWEST: u8 = 0x80;

fn escape(byte: u8) -> char {
    char::from_u32(FIRST + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn escaped(c: char) -> Option<u8> {
    // No other: a text must not be able to hide the end of a line.
    u8::try_from(u32::from(c).checked_sub(FIRST)?).ok().filter(|byte| *byte >= LOWEST)
}

/// Any bytes as text. [`encode`] gives them back.
pub fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // The escapes' own characters, should a file hold them, are escaped too.
            if escaped(c).is_some() {
                text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(escape));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().copied().map(escape));
    }
    text
}

/// The bytes of a text.
pub fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match escaped(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_itself_and_its_own_escapes_survive() {
        assert_eq!(decode("größe = 1\n".as_bytes()), "größe = 1\n");
        assert_eq!(encode("a\u{10ff0a}b"), "a\u{10ff0a}b".as_bytes());
        for hard in [&b"gr\xf6\xdfe"[..], "\u{10ffc1}".as_bytes(), b"\xf4\x8f\xbd"] {
            assert_eq!(encode(&decode(hard)), hard);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(encode(&decode(&bytes)), bytes);
        }
    }
}
