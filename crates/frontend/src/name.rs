//! What steps are called: `[build 2/3] RUN make`.

/// Numbers the steps of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    stage: String,
    total: usize,
    next: usize,
}

impl Names {
    /// For a stage with so many steps. A stage without a name is the only one of its file.
    pub fn new(stage: String, total: usize) -> Self {
        Self { stage, total, next: 1 }
    }

    /// The name of the next step.
    pub fn next(&mut self, text: &str) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        let space = if self.stage.is_empty() { "" } else { " " };
        let width = self.total.to_string().len();
        let prefix = format!("[{}{space}{:width$}/{}]", self.stage, self.next, self.total);
        self.next += 1;
        format!("{prefix} {text}")
    }
}

/// The first word in capitals.
pub(crate) fn uppercase(text: &str) -> String {
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_wide_as_the_largest() {
        let mut names = Names::new("build".into(), 10);
        assert_eq!(names.next(&uppercase("run make")), "[build  1/10] RUN make");
        assert_eq!(Names::new(String::new(), 3).next("COPY a b"), "[1/3] COPY a b");
        assert_eq!(Names::new("x".into(), 0).next("FROM a"), "FROM a");
    }
}
