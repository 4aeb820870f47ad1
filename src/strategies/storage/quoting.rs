//! Percent-encoding of names and values.

/// Encodes all but letters, digits, `-._~` and slashes.
pub(super) fn quote(text: &str) -> String {
    escape(text, |byte| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte))
}

/// Encodes what is not `plain`, byte by byte.
pub(super) fn escape(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(byte);
        } else {
            out.extend(format!("%{byte:02X}").bytes());
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Undoes percent-encoding; what does not come out as UTF-8 stays as it is.
pub(crate) fn unquote(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let digits = tail.first_chunk::<2>().filter(|_| *first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit())).and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted_for_a_path() {
        assert_eq!(quote("a b/ü?#%_~"), "a%20b/%C3%BC%3F%23%25_~");
        assert_eq!(unquote(b"%zz%4"), "%zz%4");
        assert_eq!(unquote(b"%ff"), "%ff");
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name in "\\PC*") {
            prop_assert_eq!(unquote(quote(&name).as_bytes()), name);
        }

        #[test]
        fn unquoting_takes_anything(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            unquote(&bytes);
        }
    }
}
