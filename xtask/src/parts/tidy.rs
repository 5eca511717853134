//! Rules of the repository that no other tool knows.

use std::path::Path;

use anyhow::{Result, bail};
use cargo_metadata::DependencyKind;

use crate::context::{Context, Outcome};

/// Who may use whom, besides development dependencies. The arrows of ARCHITECTURE.md.
const MAY_USE: &[(&str, &[&str])] = &[
    ("gradtape-proto", &[]),
    ("gradtape-engine", &[]),
    ("gradtape-server", &["gradtape-proto", "gradtape-engine"]),
    ("gradtape-client", &["gradtape-proto"]),
    ("gradtape-demo", &["gradtape-client", "gradtape-server"]),
    (
        "gradtape-tests",
        &["gradtape-client", "gradtape-engine", "gradtape-proto", "gradtape-server"],
    ),
    ("gradtape-fuzz", &["gradtape-engine", "gradtape-proto", "gradtape-server", "gradtape-tests"]),
    ("gradtape-bench", &["gradtape-client", "gradtape-engine", "gradtape-proto"]),
    ("gradtape-instructions", &["gradtape-engine"]),
    ("xtask", &["gradtape-engine"]),
];

/// What would make the engine know of the network, of time or of the protocol.
const NOT_IN_THE_ENGINE: &[&str] =
    &["tokio", "tonic", "prost", "tower", "futures", "chrono", "time"];

/// The feature with which a server can be let die: no build for users has it.
const FAILPOINTS: &str = "failpoints";

/// Longest source file, in lines. Half of it is a good length.
const MAX_LINES: usize = 600;

/// Where protocol and engine types meet. `wire` converts them; the session carries a command of the one to the other,
/// the log keeps both, and the
/// catalogue shows the table.
const MEETING_PLACES: &[&str] = &[
    "server/src/wire",
    "server/src/session",
    "server/src/durable",
    "server/src/services/catalog.rs",
];

/// Paths of machines on which the project was written. Split, so that this file does not hold them.
const FOREIGN_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("../sha", "red"),
    concat!("/ho", "me/"),
    concat!(".lib", "rary/"),
];

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut findings = dependencies(context);
    findings.extend(image(context)?);
    for path in context.files()? {
        let Ok(text) = std::fs::read_to_string(context.root().join(&path)) else {
            continue;
        };
        findings.extend(
            file(&path, &text).into_iter().map(|finding| format!("{}: {finding}", path.display())),
        );
    }
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    Ok(Outcome::Passed)
}

/// The build of the image reads the manifests of all members, whichever it builds.
fn image(context: &Context) -> Result<Vec<String>> {
    let ignored = std::fs::read_to_string(context.root().join(".dockerignore"))?;
    let let_in: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let members = context.metadata.workspace_packages().into_iter();
    let kept_out = members.filter_map(|member| {
        let folder = member.manifest_path.parent()?.strip_prefix(context.root()).ok()?;
        let is_let_in = let_in.iter().any(|path| folder.starts_with(path));
        (!is_let_in).then(|| format!(".dockerignore: {folder} is kept out of the image's build"))
    });
    Ok(kept_out.collect())
}

fn dependencies(context: &Context) -> Vec<String> {
    let members = context.metadata.workspace_packages();
    let mut findings = Vec::new();
    for package in &members {
        let name = package.name.as_str();
        let Some((_, allowed)) = MAY_USE.iter().find(|(user, _)| *user == name) else {
            findings.push(format!(
                "{name} is not in the list of who may use whom (xtask/src/parts/tidy.rs)"
            ));
            continue;
        };
        if package.features.get("default").is_some_and(|all| all.iter().any(|on| on == FAILPOINTS))
        {
            findings.push(format!("{name} must not have {FAILPOINTS} by default"));
        }
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            let internal = members.iter().any(|member| member.name.as_str() == used);
            if internal
                && dependency.kind != DependencyKind::Development
                && !allowed.contains(&used)
            {
                findings.push(format!("{name} must not use {used}"));
            }
            let fails = dependency.features.iter().any(|feature| feature == FAILPOINTS);
            if internal && dependency.kind != DependencyKind::Development && fails {
                findings.push(format!("{name} must not ask for {FAILPOINTS}, which is for tests"));
            }
            if name == "gradtape-engine" && NOT_IN_THE_ENGINE.contains(&used) {
                findings.push(format!("the engine must not use {used}"));
            }
        }
    }
    findings
}

/// What is wrong with one file.
fn file(path: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let generated = text.lines().take(3).any(|line| line.contains("enerated by"));
    let lines = text.lines().count();
    if matches!(extension, "rs" | "py" | "proto") && !generated && lines > MAX_LINES {
        findings.push(format!("{lines} lines are more than {MAX_LINES}"));
    }
    let documented = ["//!", "#![doc = include_str!("].iter().any(|start| text.starts_with(start));
    if extension == "rs" && !documented {
        findings.push("starts without a //! comment that says what the module holds".to_owned());
    }
    findings.extend(
        FOREIGN_PATHS
            .iter()
            .filter(|foreign| text.contains(**foreign))
            .map(|foreign| format!("names {foreign}")),
    );
    if path.starts_with("server/src") && !MEETING_PLACES.iter().any(|place| path.starts_with(place))
    {
        let both = ["gradtape_proto::", "gradtape_engine::"].iter().all(|name| text.contains(name));
        if both {
            findings.push("protocol and engine types meet in server/src/wire".to_owned());
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_measured_and_its_module_comment_is_wanted() {
        let long = "//! Module.\n".to_owned() + &"x\n".repeat(MAX_LINES);
        assert_eq!(file(Path::new("a.rs"), &long).len(), 1);
        assert_eq!(file(Path::new("a.rs"), "use x;\n").len(), 1);
        assert_eq!(file(Path::new("a.rs"), "//! Module.\n"), Vec::<String>::new());
        assert_eq!(file(Path::new("a.md"), &long), Vec::<String>::new());
    }

    #[test]
    fn the_length_of_generated_files_is_free() {
        let text = "//! Generated by a tool.\n".to_owned() + &"x\n".repeat(MAX_LINES);
        assert_eq!(file(Path::new("a.rs"), &text), Vec::<String>::new());
    }

    #[test]
    fn protocol_and_engine_meet_in_one_place() {
        let text = "//! M.\nuse gradtape_proto::v1;\nuse gradtape_engine::op;\n";
        assert_eq!(file(Path::new("server/src/layers/mod.rs"), text).len(), 1);
        assert_eq!(file(Path::new("server/src/wire/mod.rs"), text), Vec::<String>::new());
    }
}
