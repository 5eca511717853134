//! Who asks, and what each may do.
//!
//! A session belongs to the principal that made it. [`Role::scope`] is the whole table of rights beyond one's own
//! sessions. A principal lasts as long as the credential that proved it: whoever holds one for longer than a call asks
//! [`Principal::is_valid`] again.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// How often a stream that says nothing looks at the clock for the end of its credential. The clock may jump, so the
/// time that is left is not slept through in one piece.
const LONGEST_NAP: Duration = Duration::from_secs(20);

/// What kind of principal one is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Uses sessions of its own.
    #[default]
    User,
    /// Also sees and ends the sessions of its class.
    Teacher,
    /// Also sees and ends every session, and reads the server's statistics.
    Admin,
}

/// Something that concerns other people's sessions or the server as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// See that sessions exist, whose they are and how large; never what is in them.
    ListSessions,
    /// End sessions.
    EndSession,
    /// Read the server's statistics.
    ReadStatistics,
}

/// Whose sessions an action may concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nobody's.
    Nothing,
    /// One's own.
    Own,
    /// One's own and those of the users of one's class.
    Class,
    /// Everybody's.
    Everything,
}

impl Role {
    /// The table of rights. To use a session takes its token too, whatever the role.
    pub const fn scope(self, action: Action) -> Scope {
        match (self, action) {
            (Self::User | Self::Teacher, Action::ReadStatistics) => Scope::Nothing,
            (Self::User, Action::ListSessions | Action::EndSession) => Scope::Own,
            (Self::Teacher, Action::ListSessions | Action::EndSession) => Scope::Class,
            (Self::Admin, _) => Scope::Everything,
        }
    }
}

/// The owner of sessions. Two are the same if their names are.
#[derive(Clone)]
pub struct Principal(Arc<Identity>);

#[derive(Debug)]
struct Identity {
    /// With its source in front, as in `token:ada`: an identity provider cannot name somebody else's token.
    name: String,
    role: Role,
    class: Option<String>,
    expires: Option<SystemTime>,
    revoked: CancellationToken,
}

/// Name of whoever did not say who they are.
const ANONYMOUS: &str = "anonymous";

impl Principal {
    /// Somebody who was authenticated.
    pub fn new(
        name: String,
        role: Role,
        class: Option<String>,
        expires: Option<SystemTime>,
    ) -> Self {
        let revoked = CancellationToken::new();
        Self(Arc::new(Identity { name, role, class, expires, revoked }))
    }

    /// Whoever did not say who they are.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS.to_owned(), Role::User, None, None)
    }

    /// Whether nobody knows who this is. Then it is no one person, and has no rights over "its own" sessions but by
    /// their tokens.
    pub fn is_anonymous(&self) -> bool {
        self.0.name == ANONYMOUS
    }

    /// What kind of principal this is.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// Its class.
    pub fn class(&self) -> Option<&str> {
        self.0.class.as_deref()
    }

    /// Whether this principal may do something at all, be it only with its own sessions.
    pub fn may(&self, action: Action) -> bool {
        !self.is_anonymous() && self.role().scope(action) != Scope::Nothing
    }

    /// Whether this principal may do something with somebody's session.
    pub fn may_with(&self, action: Action, owner: &Self) -> bool {
        if self.is_anonymous() {
            return false;
        }
        let mine = self == owner;
        match self.role().scope(action) {
            Scope::Nothing => false,
            Scope::Own => mine,
            Scope::Class => {
                let student = owner.role() == Role::User && owner.0.class.is_some();
                mine || (student && owner.0.class == self.0.class)
            }
            Scope::Everything => true,
        }
    }

    /// Whether the credential still holds. Cheap enough for every batch.
    pub fn is_valid(&self) -> bool {
        let expired = self.0.expires.is_some_and(|expires| SystemTime::now() >= expires);
        !expired && !self.0.revoked.is_cancelled()
    }

    /// Completes when the credential no longer holds.
    pub async fn invalid(&self) {
        while self.is_valid() {
            let left = self.0.expires.map(|expires| expires.duration_since(SystemTime::now()));
            let nap = left.map_or(LONGEST_NAP, Result::unwrap_or_default).min(LONGEST_NAP);
            tokio::select! {
                () = self.0.revoked.cancelled() => {}
                // A millisecond more, so that the clock has passed the moment.
                () = tokio::time::sleep(nap + Duration::from_millis(1)) => {}
            }
        }
    }

    /// Takes the credential back: every stream that was opened with it ends.
    pub fn revoke(&self) {
        self.0.revoked.cancel();
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody(name: &str, role: Role, class: Option<&str>) -> Principal {
        Principal::new(name.to_owned(), role, class.map(str::to_owned), None)
    }

    /// Rows: who, whose session, whether it may be listed and ended.
    #[test]
    fn rights_follow_role_and_class() {
        use Role::{Admin, Teacher, User};
        let ada = somebody("ada", User, Some("7a"));
        let ben = somebody("ben", User, Some("7b"));
        let free = somebody("free", User, None);
        let teacher = somebody("teacher", Teacher, Some("7a"));
        let colleague = somebody("colleague", Teacher, Some("7a"));
        let classless = somebody("classless", Teacher, None);
        let admin = somebody("admin", Admin, None);
        let nobody = Principal::anonymous();
        let table = [
            (&ada, &ada, true),
            (&ada, &ben, false),
            (&teacher, &ada, true),
            (&teacher, &ben, false),
            (&teacher, &free, false),
            (&teacher, &teacher, true),
            (&teacher, &colleague, false),
            (&classless, &free, false),
            (&admin, &ada, true),
            (&admin, &teacher, true),
            (&nobody, &nobody, false),
            (&nobody, &ada, false),
        ];
        for (who, owner, allowed) in table {
            for action in [Action::ListSessions, Action::EndSession] {
                assert_eq!(who.may_with(action, owner), allowed, "{who} {action:?} {owner}");
            }
            assert_eq!(who.may(Action::ReadStatistics), who == &admin, "{who}");
        }
    }

    #[tokio::test]
    async fn a_revoked_credential_wakes_whoever_waits_for_its_end() {
        let ada = somebody("ada", Role::User, None);
        let waiting = tokio::spawn({
            let ada = ada.clone();
            async move { ada.invalid().await }
        });
        assert!(ada.is_valid());
        ada.revoke();
        waiting.await.unwrap();
        assert!(!ada.is_valid());
    }

    #[tokio::test]
    async fn a_credential_ends_with_its_time() {
        let past = SystemTime::now() - Duration::from_secs(1);
        let late = Principal::new("late".to_owned(), Role::User, None, Some(past));
        assert!(!late.is_valid());
        late.invalid().await;
    }
}
