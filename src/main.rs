use std::process::ExitCode;

fn main() -> ExitCode {
    elek::cli::main()
}
