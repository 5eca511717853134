//! Prints every setting from the command line's own definition; `cargo xtask generate` puts it into docs/operations.md.

use std::io::Write;

use clap::{Arg, Command};

/// Prints a table of options for each command.
pub(crate) fn print(root: &Command, out: &mut impl Write) -> anyhow::Result<()> {
    for command in commands(root, root.get_name()) {
        let options: Vec<_> = command.1.get_arguments().filter(|arg| is_setting(arg)).collect();
        if options.is_empty() {
            continue;
        }
        writeln!(out, "### `{}`\n", command.0)?;
        writeln!(out, "| option | environment | default | meaning |\n|---|---|---|---|")?;
        for option in options {
            writeln!(out, "{}", row(option))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The visible commands with their full names, each before those below it.
fn commands<'a>(command: &'a Command, name: &str) -> Vec<(String, &'a Command)> {
    let mut found = vec![(name.to_owned(), command)];
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        // As deep as the definition of the command line, which is three.
        found.extend(commands(below, &format!("{name} {}", below.get_name())));
    }
    found
}

fn is_setting(arg: &Arg) -> bool {
    !matches!(arg.get_id().as_str(), "help" | "version") && !arg.is_hide_set()
}

fn row(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(|names| names.first());
    let takes_value = arg.get_action().takes_values();
    let value = value.filter(|_| takes_value).map(ToString::to_string).unwrap_or_default();
    let option = match arg.get_long() {
        Some(long) if value.is_empty() => format!("`--{long}`"),
        Some(long) => format!("`--{long} {value}`"),
        None => format!("`<{value}>`"),
    };
    let environment = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
    let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    let default = defaults.filter(|_| takes_value).map(|value| format!("`{value}`")).next();
    let mut meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let choices: Vec<_> = arg
        .get_possible_values()
        .iter()
        .filter(|_| takes_value)
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !choices.is_empty() {
        meaning = format!("{meaning}: {}", choices.join(", "));
    }
    let cells = [option, environment.unwrap_or_default(), default.unwrap_or_default(), meaning];
    format!("| {} |", cells.map(|cell| cell.replace('|', "\\|").replace('\n', " ")).join(" | "))
}
