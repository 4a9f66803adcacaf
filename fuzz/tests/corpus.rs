//! The corpora hold: what was once found is not found again.

use std::fs;
use std::path::Path;

#[test]
fn nothing_in_the_corpora_breaks_what_must_hold() {
    for (name, target) in koskit_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}
