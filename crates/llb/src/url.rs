//! What is in the text of a URL.

/// The name of the file that a URL is of; `None` where its path has none, or where it is no
/// URL.
pub fn file_name(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let rest = rest.split(['?', '#']).next()?;
    let (_, path) = rest.split_once('/')?;
    let path = decode(path)?;
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    Some(name.to_owned()).filter(|name| !name.is_empty() && name != "." && name != "..")
}

/// Resolves `%41`; `None` where there are no two digits behind a `%`.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = rest.get(..2).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn a_file_is_called_as_the_end_of_its_path() {
        for (url, name) in [
            ("https://h/a/b.tar.gz?x=/y#z", Some("b.tar.gz")),
            ("https://h/a%20b", Some("a b")),
            ("https://h/a/", Some("a")),
            ("https://h/a/..", None),
            ("https://h/", None),
            ("https://h", None),
            ("https://h/%zz", None),
        ] {
            assert_eq!(file_name(url).as_deref(), name, "{url}");
        }
    }
}
