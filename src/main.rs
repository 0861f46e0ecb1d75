use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = elek::infer::sandbox::child_main() {
        return code;
    }
    elek::cli::main()
}
