//! How long each principal may compute in a minute, whatever it does in it.
//!
//! A bucket for each that leaks all the time: what is computed goes in, and while it is full the principal's sessions wait.
//! They are delayed, not refused, since nothing is wrong with what they ask.

use std::{collections::HashMap, time::Duration};

use crate::principal::Principal;

const MINUTE: u32 = 60;

/// What principals have computed lately.
#[derive(Debug, Default)]
pub struct Allowances {
    /// What each may compute in a minute; zero for any time.
    each: Duration,
    used: HashMap<Principal, Used>,
}

#[derive(Debug)]
struct Used {
    time: Duration,
    /// The moment of which it tells.
    at: Duration,
}

impl Allowances {
    /// So much for each principal but the anonymous one, which is many people.
    pub fn new(each: Duration) -> Self {
        Self { each, used: HashMap::new() }
    }

    /// Notes that one has computed. It may have taken more than it had: commands are not stopped for it.
    pub fn charge(&mut self, principal: &Principal, took: Duration, now: Duration) {
        if self.each.is_zero() || principal.is_anonymous() {
            return;
        }
        let time = self.level(principal, now) + took;
        self.used.insert(principal.clone(), Used { time, at: now });
        // A bucket that is empty is as good as none.
        if self.used.len().is_power_of_two() {
            let each = self.each;
            self.used.retain(|_, used| !used.level(each, now).is_zero());
        }
    }

    /// How long one has to wait, if it has to.
    pub fn wait(&self, principal: &Principal, now: Duration) -> Option<Duration> {
        if self.each.is_zero() {
            return None;
        }
        let beyond = self.level(principal, now).checked_sub(self.each)?;
        let leaks = self.each.as_secs_f64() / f64::from(MINUTE);
        // At least a little, so that nobody turns in a circle.
        Some(Duration::from_secs_f64(beyond.as_secs_f64() / leaks).max(Duration::from_millis(1)))
    }

    fn level(&self, principal: &Principal, now: Duration) -> Duration {
        self.used.get(principal).map_or(Duration::ZERO, |used| used.level(self.each, now))
    }
}

impl Used {
    fn level(&self, each: Duration, now: Duration) -> Duration {
        let leaked = now.saturating_sub(self.at) * each.as_millis().try_into().unwrap_or(u32::MAX)
            / (MINUTE * 1000);
        self.time.saturating_sub(leaked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Role;

    #[test]
    fn whoever_computes_too_much_waits_until_it_has_leaked() {
        let ada = Principal::new("ada".into(), Role::User, None, None);
        let seconds = Duration::from_secs;
        let mut allowances = Allowances::new(seconds(30));
        allowances.charge(&ada, seconds(29), seconds(100));
        assert_eq!(allowances.wait(&ada, seconds(100)), None);
        // 31 seconds on top, of which half a second a second has leaked meanwhile.
        allowances.charge(&ada, seconds(31), seconds(120));
        assert_eq!(allowances.wait(&ada, seconds(120)), Some(seconds(40)));
        assert_eq!(allowances.wait(&ada, seconds(161)), None);
        // A minute without computing empties it.
        allowances.charge(&ada, seconds(1), seconds(300));
        assert_eq!(allowances.level(&ada, seconds(300)), seconds(1));
    }

    #[test]
    fn nobody_in_particular_has_no_allowance_and_those_who_rest_are_forgotten() {
        let mut allowances = Allowances::new(Duration::from_secs(1));
        allowances.charge(&Principal::anonymous(), Duration::from_secs(100), Duration::ZERO);
        assert_eq!(allowances.wait(&Principal::anonymous(), Duration::ZERO), None);
        for i in 0..1000_u32 {
            let one = Principal::new(i.to_string(), Role::User, None, None);
            let now = Duration::from_secs(i.into());
            allowances.charge(&one, Duration::from_millis(1), now);
        }
        assert!(allowances.used.len() < 10, "{}", allowances.used.len());
    }
}
