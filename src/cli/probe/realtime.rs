//! Whether this machine can keep times: rights, kernel, cores.

use super::tree::Tree;
use super::{Finding, Section};
use crate::device::realtime::{Priority, lock_memory, raise_priority};

/// What the kernel grants this user, found by asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rights {
    realtime: bool,
    locked: bool,
}

impl Rights {
    fn ask() -> Rights {
        // In a thread of its own, which takes the priority away with it.
        let asked = std::thread::spawn(|| raise_priority(Priority::Outputs).is_ok());
        Rights {
            realtime: asked.join().unwrap_or(false),
            locked: lock_memory().is_ok(),
        }
    }
}

pub fn look(tree: &Tree) -> Section {
    tell(tree, Rights::ask())
}

fn tell(tree: &Tree, rights: Rights) -> Section {
    let mut section = Section::new("real time");
    let mut finding = Finding::new("");
    let granted = |granted| if granted { "granted" } else { "refused" };
    finding.fact("priority", granted(rights.realtime));
    finding.fact("locked memory", granted(rights.locked));
    if !rights.realtime {
        section.problem(
            "this user may not have real-time priority, so pulses wait behind other programs",
            format!(
                "Start elek by its systemd units, or allow it in /etc/security/limits.d: `elek - rtprio {}`.",
                Priority::Outputs as i32
            ),
        );
    }
    if !rights.locked {
        section.problem(
            "this user may not lock memory, so a pulse may wait for the disk",
            "Start elek by its systemd units, or allow it in /etc/security/limits.d: `elek - memlock unlimited`.",
        );
    }
    kernel(tree, &mut finding, &mut section);
    cores(tree, &mut finding, &mut section);
    section.findings.push(finding);
    section
}

fn kernel(tree: &Tree, finding: &mut Finding, section: &mut Section) {
    // Kernels built with PREEMPT_RT show this file.
    if tree.read("sys/kernel/realtime").as_deref() == Some("1") {
        finding.fact("kernel", "PREEMPT_RT");
    } else {
        finding.fact("kernel", "not PREEMPT_RT");
        section.problem(
            "the kernel is not built for real time (PREEMPT_RT): pulses are now and then late by some ms",
            "Measure with `elek bench --output-jitter`; docs/REALTIME.md says what it means and what to install.",
        );
    }
    if tree.read("proc/sys/kernel/sched_rt_runtime_us").as_deref() == Some("-1") {
        finding.fact("real-time share", "unlimited");
    }
}

fn cores(tree: &Tree, finding: &mut Finding, section: &mut Section) {
    let isolated = tree.read("sys/devices/system/cpu/isolated").unwrap_or_default();
    let isolated = if isolated.is_empty() { "none" } else { &isolated };
    finding.fact("isolated cores", isolated);
    let is_core = |name: &String| {
        name.strip_prefix("cpu")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let governor =
        |core: &String| tree.read(format!("sys/devices/system/cpu/{core}/cpufreq/scaling_governor"));
    let cores = tree.list("sys/devices/system/cpu");
    let mut governors: Vec<String> = cores
        .iter()
        .filter(|name| is_core(name))
        .filter_map(governor)
        .collect();
    governors.dedup();
    if governors.is_empty() {
        return;
    }
    finding.fact("governor", governors.join(", "));
    if let Some(slow) = governors.iter().find(|governor| *governor != "performance") {
        section.problem(
            format!("the cores change their clock (governor {slow}), so that times vary"),
            "Set the governor `performance`: see docs/REALTIME.md.",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_box_that_is_set_up_has_no_problem() {
        let dir = tree(&[
            ("sys/kernel/realtime", "1\n"),
            ("sys/devices/system/cpu/isolated", "3\n"),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "performance\n",
            ),
            (
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "performance\n",
            ),
            ("sys/devices/system/cpu/cpufreq/policy0", ""),
        ]);
        let rights = Rights {
            realtime: true,
            locked: true,
        };
        let section = tell(&Tree::at(dir.path()), rights);
        assert_eq!(section.problems, []);
        let facts = &section.findings[0].facts;
        assert!(facts.iter().any(|fact| fact.value == "PREEMPT_RT"), "{facts:?}");
        assert!(
            facts
                .iter()
                .any(|fact| fact.name == "isolated cores" && fact.value == "3"),
            "{facts:?}"
        );
        assert!(
            facts
                .iter()
                .any(|fact| fact.name == "governor" && fact.value == "performance"),
            "{facts:?}"
        );
    }

    #[test]
    fn a_box_that_is_not_is_told_each_thing_to_do() {
        let dir = tree(&[(
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "ondemand\n",
        )]);
        let rights = Rights {
            realtime: false,
            locked: false,
        };
        let section = tell(&Tree::at(dir.path()), rights);
        let said: Vec<&str> = section.problems.iter().map(|problem| &problem.what[..]).collect();
        assert_eq!(said.len(), 4, "{said:#?}");
        for (what, word) in said
            .iter()
            .zip(["priority", "lock memory", "PREEMPT_RT", "ondemand"])
        {
            assert!(what.contains(word), "{what}");
        }
        assert!(
            section
                .problems
                .iter()
                .all(|problem| problem.advice.ends_with('.'))
        );
    }
}
