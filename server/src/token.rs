//! `gradtape token`: makes, lists and revokes the tokens of a token file.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use gradtape_server::{
    access::tokens::{self, Holder, Record},
    principal::Role,
};

/// The command.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The token file. `create` makes it if it is not there.
    #[arg(long, env = "GRADTAPE_TOKEN_FILE", value_name = "FILE")]
    file: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token and print it. It is shown this once: the file holds only its digest.
    Create {
        /// Whose it is. Tokens of one name are the same principal, with the same sessions.
        name: String,
        /// What its owner may do.
        #[arg(long, value_enum, default_value_t)]
        role: Role,
        /// The class that a user is in or a teacher teaches.
        #[arg(long)]
        class: Option<String>,
        /// How long it lasts, as in 90d or 12h [default: until it is revoked].
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
    },
    /// List the tokens.
    List,
    /// Remove the token with an id, or all tokens of a name.
    Revoke {
        /// The id or name, as `list` shows it.
        which: String,
    },
}

impl Token {
    /// Does it.
    pub(crate) fn run(self, out: &mut impl Write) -> anyhow::Result<()> {
        let path = &self.file;
        match self.action {
            Action::Create { name, role, class, expires } => {
                let holder = Holder { name, role, class, lifetime: expires };
                let (record, token) = tokens::create(path, holder)?;
                eprintln!(
                    "made token {} of {}; this is the only time it is shown",
                    record.id, record.name
                );
                writeln!(out, "{token}")?;
            }
            Action::List => {
                writeln!(out, "{:16} {:24} {:8} {:12} expires", "id", "name", "role", "class")?;
                for record in tokens::read(path)? {
                    writeln!(out, "{}", line(&record))?;
                }
            }
            Action::Revoke { which } => {
                for record in tokens::revoke(path, &which)? {
                    writeln!(out, "revoked {} of {}", record.id, record.name)?;
                }
            }
        }
        Ok(())
    }
}

fn line(record: &Record) -> String {
    let role = match record.role {
        Role::User => "user",
        Role::Teacher => "teacher",
        Role::Admin => "admin",
    };
    let time = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let expires = record.expires.map_or("never".to_owned(), |seconds| {
        time(seconds)
            .map_or("never".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string())
    });
    let class = record.class.as_deref().unwrap_or("-");
    format!("{:16} {:24} {role:8} {class:12} {expires}", record.id, record.name)
}
