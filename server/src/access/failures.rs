//! Addresses that fail to say who they are too often are not listened to for a while.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

/// Addresses that are remembered before those that have calmed down are forgotten.
const MANY: usize = 4096;

/// Failed authentications by address.
#[derive(Debug)]
pub(super) struct Failures {
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    /// Until when an address is not listened to.
    blocked: Mutex<HashMap<IpAddr, Instant>>,
}

impl Failures {
    /// Allows `max_per_minute` failures of an address in a minute; 0 allows any number.
    pub(super) fn new(max_per_minute: u32) -> Self {
        let limiter =
            NonZeroU32::new(max_per_minute).map(|max| RateLimiter::keyed(Quota::per_minute(max)));
        Self { limiter, blocked: Mutex::default() }
    }

    /// How long an address is not listened to, if it is not.
    pub(super) fn blocked(&self, address: IpAddr) -> Option<Duration> {
        let until = *self.lock().get(&network(address))?;
        until.checked_duration_since(Instant::now())
    }

    /// Counts a failure.
    pub(super) fn count(&self, address: IpAddr) {
        let Some(limiter) = &self.limiter else { return };
        let network = network(address);
        if let Err(not_until) = limiter.check_key(&network) {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let now = Instant::now();
            let mut blocked = self.lock();
            if blocked.len() >= MANY {
                blocked.retain(|_, until| *until > now);
            }
            blocked.insert(network, now + wait);
        }
        if limiter.len() > MANY {
            limiter.retain_recent();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host has all addresses of an IPv6 network of 64 bits, so they count as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_that_fails_too_often_is_blocked() {
        let failures = Failures::new(3);
        let [bad, good]: [IpAddr; 2] =
            ["2001:db8::1", "2001:db8:0:1::1"].map(|a| a.parse().unwrap());
        for i in 0..3 {
            assert_eq!(failures.blocked(bad), None, "after {i} failures");
            failures.count(bad);
        }
        failures.count(bad);
        let wait = failures.blocked("2001:db8::2".parse().unwrap()).unwrap();
        assert!(wait <= Duration::from_secs(20), "one failure in 20 s is allowed, not in {wait:?}");
        assert_eq!(failures.blocked(good), None);
        let open = Failures::new(0);
        (0..100).for_each(|_| open.count(bad));
        assert_eq!(open.blocked(bad), None);
    }
}
