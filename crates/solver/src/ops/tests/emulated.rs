//! Programs of another machine.

use super::*;

/// A program for arm64 Linux that says the first five letters of its name and ends well.
fn program() -> Vec<u8> {
    const LOAD: u64 = 0x40_0000;
    let code: [u32; 8] = [
        0xd280_0020, // mov x0, #1
        0xf940_07e1, // ldr x1, [sp, #8]: the first argument
        0xd280_00a2, // mov x2, #5
        0xd280_0808, // mov x8, #64: write
        0xd400_0001, // svc #0
        0xd280_0000, // mov x0, #0
        0xd280_0ba8, // mov x8, #93: exit
        0xd400_0001, // svc #0
    ];
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let size = 64 + 56 + 32u64;
    file.extend([2u16, 183].iter().flat_map(|n| n.to_le_bytes()));
    file.extend(1u32.to_le_bytes());
    file.extend([LOAD + 120, 64, 0].iter().flat_map(|n: &u64| n.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 64, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
    file.extend([1u32, 5].iter().flat_map(|n| n.to_le_bytes()));
    file.extend([0, LOAD, LOAD, size, size, 0x1000].iter().flat_map(|n: &u64| n.to_le_bytes()));
    file.extend(code.iter().flat_map(|n| n.to_le_bytes()));
    file
}

#[test]
fn a_command_of_another_machine_runs_by_an_emulator() {
    inside(|_, dir| {
        let platform: Platform = "linux/arm64".parse().unwrap();
        if crate::emulate::Emulator::of(&platform).is_none() {
            return println!("skipped: there is no qemu-aarch64-static, or no need of it");
        }
        let world = World::new(dir);
        let mut ops = Ops::default();
        let file = pb::FileActionMkFile {
            path: "/hello".into(),
            mode: 0o755,
            data: program(),
            timestamp: 0,
            ..Default::default()
        };
        let action = pb::FileAction {
            input: -1,
            secondary_input: -1,
            output: 0,
            action: Some(Action::Mkfile(file)),
        };
        let base = (ops.add(Op::File(pb::FileOp { actions: vec![action] }), &[]), 0);
        let run = |ops: &mut Ops, platform: &Platform| {
            let meta = pb::Meta {
                args: vec!["hello".into()],
                env: vec!["PATH=/".into()],
                cwd: "/".into(),
                ..Default::default()
            };
            let mounts = vec![pb::Mount { dest: "/".into(), ..pb::Mount::default() }];
            let op = pb::ExecOp { meta: Some(meta), mounts, ..Default::default() };
            (ops.add_for(platform, Some(Op::Exec(op)), &[base]), 0)
        };
        let run = run(&mut ops, &platform);
        let (solved, said) = world.solve(&ops.graph(run), &Inputs::default());
        solved.unwrap_or_else(|e| panic!("{} {said}", chain(&e)));
        assert_eq!(said, "hello");
    });
}
