use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args
        .next()
        .is_some_and(|arg| arg == elek::infer::sandbox::SUBCOMMAND)
    {
        return elek::infer::sandbox::child(args.collect());
    }
    elek::cli::main()
}
