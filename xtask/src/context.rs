//! What all tasks share: the shell at the root of the repository, and the virtual environment of Python's tools.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};
use xshell::{Shell, cmd};

/// Python's tools that the repository itself needs. Pinned, so that a new release breaks nobody's build.
const TOOLS: &[&str] = &["buf-bin==1.75.0"];

/// What became of a part that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ran and is fine.
    Passed,
    /// It could not run here.
    Skipped(String),
}

/// The shell and what is known of the repository.
#[derive(Debug)]
pub(crate) struct Context {
    /// A shell whose current directory is the root of the repository.
    pub(crate) sh: Shell,
    /// Whether a missing toolchain is a failure.
    pub(crate) ci: bool,
    /// The workspace.
    pub(crate) metadata: Metadata,
}

impl Context {
    pub(crate) fn new(ci: bool) -> Result<Self> {
        let metadata = MetadataCommand::new().exec().context("ask cargo for the workspace")?;
        let sh = Shell::new()?;
        sh.change_dir(metadata.workspace_root.as_std_path());
        Ok(Self { sh, ci, metadata })
    }

    /// The root of the repository.
    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// Cargo's target folder.
    pub(crate) fn target(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    /// Skips a part for the want of a toolchain, or fails where everything must run.
    pub(crate) fn missing(&self, why: &str) -> Result<Outcome> {
        if self.ci {
            bail!("{why}; with CI=true nothing may be missing");
        }
        Ok(Outcome::Skipped(why.to_owned()))
    }

    /// The files that git tracks or would track, relative to the root.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let listed =
            cmd!(self.sh, "git ls-files --cached --others --exclude-standard").quiet().read()?;
        Ok(listed
            .lines()
            .map(PathBuf::from)
            .filter(|path| self.root().join(path).is_file())
            .collect())
    }

    /// Why there can be no virtual environment on this machine, if so.
    pub(crate) fn python_missing(&self) -> Option<&'static str> {
        if which::which("python3").is_err() {
            return Some("python3 is not installed");
        }
        let has_venv =
            cmd!(self.sh, "python3 -c 'import venv, ensurepip'").quiet().ignore_stderr().run();
        has_venv.is_err().then_some("python3 has no venv module (Debian: apt install python3-venv)")
    }

    /// The programs of the virtual environment, which is made if there is none. It holds the repository's tools.
    pub(crate) fn venv(&self) -> Result<PathBuf> {
        let venv = self.target().join("venv");
        let bin = venv.join("bin");
        if !bin.join("pip").exists() {
            cmd!(self.sh, "python3 -m venv {venv}").run().context("make a virtual environment")?;
        }
        self.install_once(&bin, "tools", TOOLS)?;
        Ok(bin)
    }

    /// Installs requirements unless the same ones were installed before.
    pub(crate) fn install_once(&self, bin: &Path, name: &str, requirements: &[&str]) -> Result<()> {
        let stamp = bin.join(format!(".installed-{name}"));
        let wanted = requirements.join("\n");
        if self.sh.read_file(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        let pip = bin.join("pip");
        // The last requirement may carry the contents of a file, behind a `#`, to notice when it changes.
        let arguments = requirements.iter().filter(|line| !line.starts_with('#'));
        cmd!(self.sh, "{pip} install --quiet --disable-pip-version-check {arguments...}").run()?;
        Ok(self.sh.write_file(stamp, wanted)?)
    }
}
