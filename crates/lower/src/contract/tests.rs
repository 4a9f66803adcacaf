use super::*;
use crate::tests::hello;
use koskit_image::Node;
use proptest::prelude::*;
use serde_json::json;

fn config(labels: &[(&str, &str)]) -> ImageConfiguration {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let config = json!({
        "os": "linux", "architecture": "arm64",
        "rootfs": { "type": "layers", "diff_ids": [] }, "config": { "Labels": labels },
    });
    serde_json::from_value(config).unwrap()
}

fn words() -> Words {
    Words { args: vec!["/hello".into()], env: vec![], cwd: "/".into() }
}

fn with_file(file: &str, labels: &[(&str, &str)]) -> Result<(Stated, Contract), LowerError> {
    let mut tree = Tree::new();
    tree.insert("share/spec.json", Node::file(0o644, file.as_bytes()));
    let stated = Stated::read(&tree, &config(labels), &Options::default())?;
    let contract = stated.contract(&hello(), &words(), 0)?;
    Ok((stated, contract))
}

fn contract(labels: &[(&str, &str)]) -> Result<Contract, LowerError> {
    with_file("", labels).map(|(_, contract)| contract)
}

fn sentence(labels: &[(&str, &str)]) -> String {
    contract(labels).unwrap_err().to_string()
}

const SPEC: (&str, &str) = (label::SPEC, "/share/spec.json");

#[test]
fn the_labels_of_the_talk_are_understood() {
    let contract = contract(&[
        (label::NAME, "hello"),
        (label::HEAP_PAGES, "2560"),
        (label::UT_LARGE_PAGE, "4"),
        (label::UT_4K_PAGES, "24"),
        (label::MAX_PRIORITY, "190"),
        (label::PRIORITY, "180"),
        (label::PUBLISHES, "hello_protocol,internet_protocol"),
    ]);
    let contract = contract.unwrap();
    assert_eq!((contract.name(), contract.heap_pages), ("hello", 2560));
    assert_eq!((contract.ut_large_page, contract.ut_4k_pages), (4, 24));
    assert_eq!((contract.priority, contract.max_priority), (180, 190));
}

#[test]
fn ours_are_understood_too_and_only_devices_of_the_board() {
    let ours = [(label::THREADS, "9"), (label::CPU, "250"), (label::DEVICES, "rtc")];
    let contract = contract(&ours).unwrap();
    assert_eq!((contract.threads, contract.cpu, contract.devices), (9, 250, 1));
    let error = sentence(&[(label::DEVICES, "rtc, disk")]);
    assert!(error.contains("rtc, disk") && error.ends_with("devices of the board: rtc"), "{error}");
    assert!(sentence(&[(label::CPU, "1001")]).ends_with("a whole number between 0 and 1000"));
}

#[test]
fn the_file_states_a_contract_and_labels_win_over_it() {
    let file = r#"{"heap_pages": 10, "priority": "50", "publishes": ["a", "b"]}"#;
    let (stated, contract) = with_file(file, &[SPEC, (label::HEAP_PAGES, "20")]).unwrap();
    assert_eq!((contract.heap_pages, contract.priority), (20, 50));
    assert_eq!(stated.publishes, ["a", "b"]);
}

#[test]
fn options_win_over_labels() {
    let labels = [(label::HEAP_PAGES, "20"), (label::STACK_PAGES, "30")];
    let mut options = Options::default();
    options.labels.insert(label::HEAP_PAGES.into(), "40".into());
    let stated = Stated::read(&Tree::new(), &config(&labels), &options).unwrap();
    let contract = stated.contract(&hello(), &words(), 0).unwrap();
    assert_eq!((contract.heap_pages, contract.stack_pages), (40, 30));
}

#[test]
fn a_bad_value_is_told_with_what_is_allowed() {
    assert_eq!(
        sentence(&[(label::HEAP_PAGES, "many")]),
        "the label com.koskit.app.spec.heap_pages is \"many\", but must be a whole number \
         between 0 and 4294967295"
    );
    for text in ["", "-1", "+1", " 1", "0x10", "1.5", "300", "18446744073709551616"] {
        assert!(sentence(&[(label::PRIORITY, text)]).contains("between 0 and 254"), "{text}");
    }
    assert!(sentence(&[(label::STACK_PAGES, "0")]).contains("between 1 and 32768"));
    assert!(sentence(&[(label::PUBLISHES, "a, b c")]).contains("separated by commas"));
    assert!(sentence(&[(label::NAME, "a/b")]).contains("letters, digits"));
    assert!(sentence(&[(label::BINARY, "bin/hello")]).contains("an absolute path"));
}

#[test]
fn a_bad_value_in_the_file_is_told_with_its_place() {
    let error = with_file(r#"{"heap_pages": -1}"#, &[SPEC]).unwrap_err().to_string();
    assert!(error.starts_with("heap_pages in /share/spec.json is \"-1\", but must be"), "{error}");
    let error = with_file(r#"{"heap": 1}"#, &[SPEC]).unwrap_err().to_string();
    assert!(error.starts_with("heap in /share/spec.json means nothing; known are heap_pages,"));
    let error = with_file("[]", &[SPEC]).unwrap_err().to_string();
    assert!(error.contains("is no JSON object"), "{error}");
    let error = with_file("{}", &[(label::SPEC, "/nothing")]).unwrap_err().to_string();
    assert!(error.ends_with("is not in the image"), "{error}");
}

#[test]
fn an_unknown_label_of_ours_is_a_mistake_and_one_of_others_is_not() {
    let error = sentence(&[("com.koskit.app.spec.heap_page", "1")]);
    assert!(error.starts_with("the label com.koskit.app.spec.heap_page means nothing; known are"));
    contract(&[("org.opencontainers.image.title", "x")]).unwrap();
}

#[test]
fn one_stated_priority_moves_the_default_of_the_other() {
    let high = contract(&[(label::PRIORITY, "200")]).unwrap();
    assert_eq!((high.priority, high.max_priority), (200, 200));
    let low = contract(&[(label::MAX_PRIORITY, "100")]).unwrap();
    assert_eq!((low.priority, low.max_priority), (100, 100));
    let error = sentence(&[(label::PRIORITY, "200"), (label::MAX_PRIORITY, "100")]);
    assert_eq!(
        error,
        "the label com.koskit.app.spec.priority is \"200\", but must be between 0 and 100"
    );
}

#[test]
fn the_cnode_has_a_slot_for_each_page_of_the_untypeds() {
    let small = contract(&[(label::UT_LARGE_PAGE, "0"), (label::UT_4K_PAGES, "24")]).unwrap();
    assert_eq!(small.cnode_bits, 6);
    assert_eq!(contract(&[]).unwrap().cnode_bits, 10);
}

#[test]
fn the_stack_grows_with_what_must_lie_on_it() {
    let stated = Stated::default();
    assert_eq!(stated.contract(&hello(), &words(), 0).unwrap().stack_pages, 16);
    let long = Words { args: vec!["x".repeat(3 * 4096)], ..words() };
    assert_eq!(stated.contract(&hello(), &long, 0).unwrap().stack_pages, 19);
    let mut program = hello();
    // The first program header, a PT_PHDR, becomes PT_GNU_STACK.
    program[64..68].copy_from_slice(&0x6474_e551_u32.to_le_bytes());
    program[104..112].copy_from_slice(&0x10_0000_u64.to_le_bytes());
    assert_eq!(stated.contract(&program, &words(), 0).unwrap().stack_pages, 256);
}

#[test]
fn names_are_made_of_image_names() {
    let name = |image| name_of_image(image);
    assert_eq!(name("hello"), "hello");
    assert_eq!(name("registry:5000/kos/busybox:1.2@sha256:00"), "busybox");
    assert_eq!(name(""), "container");
    assert_eq!(name("..ä b"), "b");
}

proptest! {
    #[test]
    fn any_name_of_an_image_gives_a_name(image in ".*") {
        prop_assert!(is_name(&name_of_image(&image)));
    }

    #[test]
    fn any_file_gives_a_checked_contract_or_an_error(
        key in prop::sample::select(NUMBERS.map(|(name, _)| name).to_vec()),
        number in prop_oneof![any::<u64>(), 0..300u64],
    ) {
        let file = format!(r#"{{"{key}": {number}}}"#);
        if let Ok((_, contract)) = with_file(&file, &[SPEC]) {
            prop_assert_eq!(contract.check(), Ok(()));
        }
    }
}
