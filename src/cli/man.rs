//! `elek man [SUBCOMMAND]`

use anyhow::{Context, Result, bail};
use clap::Command;
use clap_mangen::Man;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Page of this subcommand instead of elek's own.
    subcommand: Option<String>,
    /// Write all pages (elek.1, elek-run.1, …) into this folder instead of printing one.
    #[arg(long, value_name = "FOLDER", conflicts_with = "subcommand")]
    all: Option<PathBuf>,
}

/// Prints or writes manual pages for `command`, the whole command line of elek.
pub fn run(args: Args, mut command: Command) -> Result<ExitCode> {
    if let Some(folder) = &args.all {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        clap_mangen::generate_to(command, folder)
            .with_context(|| format!("cannot write pages to {}", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Gives the subcommands their full names.
    command.build();
    let command = match &args.subcommand {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => bail!("there is no subcommand `{name}`; `elek --help` lists them"),
        },
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    std::io::stdout().write_all(&page)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let hidden = Command::new("inner").hide(true);
        Command::new("elek")
            .about("A sieve")
            .subcommand(Command::new("run").about("Run it"))
            .subcommand(hidden)
    }

    #[test]
    fn there_is_a_page_for_each_command_that_people_use() {
        let dir = tempfile::tempdir().unwrap();
        let all = Some(dir.path().to_owned());
        run(
            Args {
                subcommand: None,
                all,
            },
            command(),
        )
        .unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["elek-run.1", "elek.1"]);
        let text = std::fs::read_to_string(dir.path().join("elek-run.1")).unwrap();
        assert!(text.contains("Run it"), "{text}");
    }

    #[test]
    fn a_page_that_does_not_exist_is_an_error() {
        let error = run(
            Args {
                subcommand: Some("fly".into()),
                all: None,
            },
            command(),
        )
        .unwrap_err();
        assert!(error.to_string().contains("`fly`"), "{error}");
    }
}
