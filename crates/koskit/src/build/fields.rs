//! Options of the form `key=value,key=value`, as docker has them: a line of CSV.

/// The fields of a text. A field with commas in it is put in quotes: `"name=a,b"`.
///
/// # Errors
/// A quote has no end, or something stands beside it.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, more) = match rest.split_once(',') {
                Some((field, more)) => (field, Some(more)),
                None => (rest, None),
            };
            fields.push(field.trim().to_owned());
            match more {
                Some(more) => rest = more,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        let mut chars = quoted.char_indices().peekable();
        let end = loop {
            match chars.next() {
                // Two quotes are one.
                Some((_, '"')) if chars.next_if(|(_, c)| *c == '"').is_some() => field.push('"'),
                Some((at, '"')) => break at + 1,
                Some((_, c)) => field.push(c),
                None => return Err(format!("a quote has no end in {text:?}")),
            }
        };
        fields.push(field);
        match &quoted[end..] {
            "" => return Ok(fields),
            more => match more.strip_prefix(',') {
                Some(more) => rest = more,
                None => return Err(format!("after a quote there is no comma in {text:?}")),
            },
        }
    }
}

/// The fields as keys, in lower case, and values.
///
/// # Errors
/// As [`fields`], or a field is of another form.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |field: String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
        None => Err(format!("{field:?} is not of the form key=value")),
    };
    fields(text)?.into_iter().map(pair).collect()
}

/// A truth value, as Go reads them.
///
/// # Errors
/// It is none.
pub fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{key}={value} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_csv() {
        let fields = |text| fields(text).unwrap();
        assert_eq!(
            fields("type=image,\"name=a,b\",push=true"),
            ["type=image", "name=a,b", "push=true"]
        );
        assert_eq!(fields("a=\"\"\"b"), ["a=\"\"\"b"]);
        assert_eq!(fields("\"a=\"\"b\"\"\""), ["a=\"b\""]);
        assert_eq!(fields("a, b"), ["a", "b"]);
        assert!(super::fields("\"a").is_err() && super::fields("\"a\"b").is_err());
        assert!(pairs("a").is_err());
        assert_eq!(pairs("Type=X=Y").unwrap(), [("type".into(), "X=Y".into())]);
    }
}
