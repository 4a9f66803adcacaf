//! Which numbers `build.rs` gives, by the two forms that kernels state conditions in.

#[path = "../generate.rs"]
mod generate;

use generate::{Config, numbers};

const SYSCALLS: &str = r#"<syscalls>
    <api><config><syscall name="Call"/><syscall name="ReplyRecv"/></config></api>
    <debug><config><syscall name="DebugPutChar"/></config></debug>
</syscalls>"#;

fn labels(methods: &str, config: &str) -> Vec<String> {
    let interface = format!("<api><interface name=\"x\">{methods}</interface></api>");
    let nothing = "<api/>";
    let out = numbers(SYSCALLS, [&interface, nothing, nothing], &Config::parse(config));
    let (_, labels) = out.split_once("pub mod label {\n").expect("a module of labels");
    labels
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.strip_suffix(';'))
        .map(|line| line.replace(": u64 = ", " "))
        .collect()
}

#[test]
fn only_the_calls_of_every_kernel_have_numbers() {
    let out = numbers(SYSCALLS, ["<api/>"; 3], &Config::parse("{}"));
    assert!(out.contains("pub const ReplyRecv: i64 = -2;"), "{out}");
    assert!(!out.contains("Debug"), "{out}");
}

#[test]
fn conditions_of_sel4_5_are_attributes() {
    let methods = r#"<method id="First"/>
        <method id="Affinity" condition="CONFIG_MAX_NUM_NODES &gt; 1"/>
        <method id="Smmu" condition="defined(CONFIG_ARM_SMMU)"/>
        <method id="Vcpu" condition="defined CONFIG_ARM_HYPERVISOR_SUPPORT"/>"#;
    let one = r#"{"MAX_NUM_NODES": 1, "ARM_SMMU": false, "ARM_HYPERVISOR_SUPPORT": true}"#;
    assert_eq!(labels(methods, one), ["First 1", "Vcpu 2"]);
    let many = r#"{"MAX_NUM_NODES": 4, "ARM_SMMU": true}"#;
    assert_eq!(labels(methods, many), ["First 1", "Affinity 2", "Smmu 3"]);
}

#[test]
fn conditions_of_sel4_16_are_elements() {
    let methods = r#"<method id="Affinity">
            <condition><and><config var="CONFIG_ENABLE_SMP_SUPPORT"/>
                <not><config var="CONFIG_KERNEL_MCS"/></not></and></condition></method>
        <method id="Either">
            <condition><or><config var="CONFIG_A"/><config var="CONFIG_B"/></or></condition></method>
        <method id="Last"><condition></condition></method>"#;
    assert_eq!(labels(methods, r#"{"ENABLE_SMP_SUPPORT": true}"#), ["Affinity 1", "Last 2"]);
    let mcs = r#"{"ENABLE_SMP_SUPPORT": true, "KERNEL_MCS": true, "CONFIG_B": true}"#;
    assert_eq!(labels(methods, mcs), ["Either 1", "Last 2"]);
}

#[test]
fn the_three_interfaces_are_numbered_one_after_another() {
    let of = |id| format!("<api><interface><method id=\"{id}\"/></interface></api>");
    let (all, one, family) = (of("All"), of("One"), of("Family"));
    let out = numbers(SYSCALLS, [&all, &one, &family], &Config::parse("{}"));
    for line in ["All: u64 = 1;", "One: u64 = 2;", "Family: u64 = 3;"] {
        assert!(out.contains(line), "{out}");
    }
}
