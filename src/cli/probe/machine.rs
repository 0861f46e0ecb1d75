//! The machine itself: board, cores, instruction sets for the models, memory.

use super::tree::Tree;
use super::{Finding, Section};
use crate::kernels::isa::Isa;

/// elek with two models and the frames in flight needs about a third of this.
const MEMORY_KB_MIN: u64 = 512 * 1024;

pub fn look(tree: &Tree) -> Section {
    let mut section = Section::new("machine");
    let mut finding = Finding::new("");
    if let Some(model) = model(tree) {
        finding.fact("model", model);
    }
    if let Some(compatible) = tree.read("proc/device-tree/compatible") {
        // From the board to the chip, separated by zero bytes; the last one is the chip.
        if let Some(soc) = compatible.split('\0').next_back() {
            finding.fact("chip", soc);
        }
    }
    let cores = cores(&tree.read("proc/cpuinfo").unwrap_or_default());
    for (count, core) in &cores {
        finding.fact("cores", format!("{count} × {core}"));
    }
    let (sets, best) = (crate::cli::instruction_sets(), Isa::best().name());
    finding.fact("instruction sets", format!("{sets}; in use: {best}"));
    memory(tree, &mut finding, &mut section);
    section.findings.push(finding);
    section
}

/// Boards with a device tree say it there, others in their firmware's tables.
fn model(tree: &Tree) -> Option<String> {
    if let Some(model) = tree.read("proc/device-tree/model") {
        return Some(model);
    }
    let table = |name: &str| tree.read(format!("sys/class/dmi/id/{name}"));
    let words = [table("sys_vendor")?, table("product_name")?];
    Some(words.join(" ").trim().to_owned()).filter(|words| !words.is_empty())
}

/// How many of which core, in the order in which the kernel counts them.
pub fn cores(cpuinfo: &str) -> Vec<(usize, String)> {
    let mut cores: Vec<(usize, String)> = Vec::new();
    for block in cpuinfo.split("\n\n").filter(|block| block.contains("processor")) {
        let field = |name: &str| {
            block.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            })
        };
        let arm = field("CPU part").map(|part| arm_core(field("CPU implementer").as_deref(), &part));
        let name = arm
            .or_else(|| field("model name"))
            .unwrap_or_else(|| "unknown core".into());
        match cores.iter_mut().find(|(_, known)| *known == name) {
            Some((count, _)) => *count += 1,
            None => cores.push((1, name)),
        }
    }
    cores
}

/// Part numbers of ARM's own cores, from their technical reference manuals (register MIDR_EL1).
fn arm_core(implementer: Option<&str>, part: &str) -> String {
    const PARTS: [(&str, &str); 15] = [
        ("0xd03", "Cortex-A53"),
        ("0xd04", "Cortex-A35"),
        ("0xd05", "Cortex-A55"),
        ("0xd07", "Cortex-A57"),
        ("0xd08", "Cortex-A72"),
        ("0xd09", "Cortex-A73"),
        ("0xd0a", "Cortex-A75"),
        ("0xd0b", "Cortex-A76"),
        ("0xd0c", "Neoverse N1"),
        ("0xd0d", "Cortex-A77"),
        ("0xd40", "Neoverse V1"),
        ("0xd41", "Cortex-A78"),
        ("0xd42", "Cortex-A78AE"),
        ("0xd46", "Cortex-A510"),
        ("0xd49", "Neoverse N2"),
    ];
    let known = PARTS.iter().find(|(number, _)| *number == part);
    match (implementer, known) {
        (None | Some("0x41"), Some((_, name))) => (*name).to_owned(),
        (implementer, _) => format!("core {part} of maker {}", implementer.unwrap_or("unknown")),
    }
}

fn memory(tree: &Tree, finding: &mut Finding, section: &mut Section) {
    let meminfo = tree.read("proc/meminfo").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let (Some(total), Some(available)) = (field("MemTotal:"), field("MemAvailable:")) else {
        return;
    };
    let shown = |kb: u64| format!("{:.1} GiB", kb as f64 / f64::from(1 << 20));
    finding.fact(
        "memory",
        format!("{}, {} available", shown(total), shown(available)),
    );
    if available < MEMORY_KB_MIN {
        section.problem(
            format!("Only {} of memory are available.", shown(available)),
            "End what else runs on this box; elek with two models needs about half a GiB to be safe.",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let tree = Tree::at(dir.path());
        (dir, tree)
    }

    fn facts(section: &Section) -> Vec<(&str, &str)> {
        let facts = section.findings[0].facts.iter();
        facts
            .map(|fact| (fact.name.as_str(), fact.value.as_str()))
            .filter(|(name, _)| *name != "instruction sets")
            .collect()
    }

    #[test]
    fn an_arm_board_is_named_by_its_device_tree() {
        let core = |n, part| {
            format!("processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: {part}\nCPU revision\t: 1\n\n")
        };
        let cpuinfo = [
            core(0, "0xd05"),
            core(1, "0xd05"),
            core(2, "0xd0b"),
            core(3, "0xfff"),
        ]
        .concat();
        let (_dir, tree) = tree(&[
            ("proc/device-tree/model", "Radxa ROCK 5B\0"),
            ("proc/device-tree/compatible", "radxa,rock-5b\0rockchip,rk3588\0"),
            ("proc/cpuinfo", &cpuinfo),
            (
                "proc/meminfo",
                "MemTotal: 8147236 kB\nMemFree: 1 kB\nMemAvailable: 6291456 kB\n",
            ),
        ]);
        let section = look(&tree);
        assert_eq!(
            facts(&section),
            [
                ("model", "Radxa ROCK 5B"),
                ("chip", "rockchip,rk3588"),
                ("cores", "2 × Cortex-A55"),
                ("cores", "1 × Cortex-A76"),
                ("cores", "1 × core 0xfff of maker 0x41"),
                ("memory", "7.8 GiB, 6.0 GiB available"),
            ]
        );
        assert_eq!(section.problems, []);
    }

    #[test]
    fn a_pc_is_named_by_its_firmware_and_little_memory_is_a_problem() {
        let (_dir, tree) = tree(&[
            ("sys/class/dmi/id/sys_vendor", "Maker\n"),
            ("sys/class/dmi/id/product_name", "Box 1\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Some CPU\n\nprocessor\t: 1\nmodel name\t: Some CPU\n",
            ),
            ("proc/meminfo", "MemTotal: 500000 kB\nMemAvailable: 300000 kB\n"),
        ]);
        let section = look(&tree);
        assert_eq!(
            facts(&section),
            [
                ("model", "Maker Box 1"),
                ("cores", "2 × Some CPU"),
                ("memory", "0.5 GiB, 0.3 GiB available"),
            ]
        );
        assert_eq!(section.problems.len(), 1);
    }

    #[test]
    fn an_empty_tree_says_little_and_does_not_fail() {
        let (_dir, tree) = tree(&[]);
        assert_eq!(facts(&look(&tree)), []);
    }
}
