//! Who has a session, and until when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use r1seg::CancelToken;

use super::settings::ViewerSessions;
use super::workspace::Workspace;
use crate::ids::{Id, Kind};
use crate::keys::Owner;
use crate::shelf::lock;

/// All sessions that are open. The time is given by the caller.
#[derive(Debug)]
pub(crate) struct Sessions {
    most: usize,
    idle: Duration,
    liveness: Duration,
    open: Mutex<HashMap<String, Arc<Session>>>,
    gauge: Gauge,
}

/// What one viewer works with.
#[derive(Debug)]
pub(crate) struct Session {
    token: Id,
    owner: Owner,
    clocks: Mutex<Clocks>,
    /// The session has ended, and what is done for it is of no use.
    pub(super) gone: CancelToken,
    /// Held by the request that does something; others of the same session wait for it.
    pub(super) work: Arc<tokio::sync::Mutex<Workspace>>,
}

#[derive(Debug)]
struct Clocks {
    /// When its user last did something.
    acted: Instant,
    /// When anything of its viewer last came.
    heard: Instant,
}

/// What a request shows of its viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// That it is alive.
    Life,
    /// That its user does something.
    Action,
}

impl Session {
    /// What requests name it by.
    pub(super) fn token(&self) -> &str {
        self.token.as_str()
    }
}

impl Sessions {
    pub(super) fn new(settings: &ViewerSessions, gauge: &Gauge) -> Self {
        Self {
            most: settings.max_sessions,
            idle: settings.idle,
            liveness: settings.liveness,
            open: Mutex::default(),
            gauge: gauge.clone(),
        }
    }

    /// Opens one, unless as many are open as there may be.
    pub(super) fn claim(&self, owner: Owner, now: Instant) -> Option<Arc<Session>> {
        let mut open = lock(&self.open);
        self.retain(&mut open, now);
        if open.len() >= self.most {
            return None;
        }
        let session = Arc::new(Session {
            token: Kind::Session.draw(),
            owner,
            clocks: Mutex::new(Clocks { acted: now, heard: now }),
            gone: CancelToken::default(),
            work: Arc::default(),
        });
        open.insert(session.token().to_string(), session.clone());
        self.count(&open);
        Some(session)
    }

    /// The session of a token, which lives on for longer then. To another key it does not exist.
    pub(super) fn enter(
        &self,
        token: Option<&str>,
        owner: Owner,
        sign: Sign,
        now: Instant,
    ) -> Option<Arc<Session>> {
        let open = lock(&self.open);
        let session = open.get(token?).filter(|session| session.owner == owner)?;
        if self.is_over(session, now) {
            return None;
        }
        let mut clocks = lock(&session.clocks);
        clocks.heard = now;
        if sign == Sign::Action {
            clocks.acted = now;
        }
        drop(clocks);
        Some(session.clone())
    }

    /// How long a session is kept if its user does nothing more.
    pub(super) fn left(&self, session: &Session, now: Instant) -> Duration {
        let since = now.saturating_duration_since(lock(&session.clocks).acted);
        self.idle.saturating_sub(since)
    }

    /// Ends a session, if there is one of this token.
    pub(super) fn release(&self, token: Option<&str>, owner: Owner) {
        let mut open = lock(&self.open);
        let Some(token) = token else { return };
        if open.get(token).is_some_and(|session| session.owner == owner) {
            open.remove(token).iter().for_each(|session| session.gone.cancel());
            self.count(&open);
        }
    }

    /// Ends those of which nothing came for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        self.retain(&mut lock(&self.open), now);
    }

    fn retain(&self, open: &mut HashMap<String, Arc<Session>>, now: Instant) {
        open.retain(|_, session| {
            let is_over = self.is_over(session, now);
            if is_over {
                session.gone.cancel();
            }
            !is_over
        });
        self.count(open);
    }

    /// Whether either clock has run out, and no request is at work on it.
    fn is_over(&self, session: &Arc<Session>, now: Instant) -> bool {
        let clocks = lock(&session.clocks);
        let since = |then: Instant| now.saturating_duration_since(then);
        let has_run_out = since(clocks.acted) >= self.idle || since(clocks.heard) >= self.liveness;
        has_run_out && Arc::strong_count(session) == 1
    }

    fn count(&self, open: &HashMap<String, Arc<Session>>) {
        self.gauge.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keys;

    fn sessions() -> (Sessions, Gauge) {
        let gauge = Gauge::default();
        (Sessions::new(&ViewerSessions::default(), &gauge), gauge)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_session_ends_when_its_user_does_nothing_for_too_long() {
        let (sessions, gauge) = sessions();
        let (owner, start) = (Owner::default(), Instant::now());
        let token = sessions.claim(owner, start).unwrap().token().to_string();
        let enter = |sign, after| sessions.enter(Some(&token), owner, sign, start + seconds(after));
        for after in (30..=570).step_by(30) {
            assert!(enter(Sign::Life, after).is_some(), "{after}");
        }
        // An action moves the end, and a sign of life does not.
        let left = |after| {
            let session = enter(Sign::Life, after).unwrap();
            sessions.left(&session, start + seconds(after)).as_secs()
        };
        assert_eq!(left(590), 10);
        assert!(enter(Sign::Action, 599).is_some());
        assert_eq!(left(600), 599);
        for after in (650..=1190).step_by(50) {
            assert!(enter(Sign::Life, after).is_some(), "{after}");
        }
        sessions.sweep(start + seconds(1198));
        assert_eq!(gauge.get(), 1);
        assert!(enter(Sign::Action, 1199).is_none(), "it is over before anybody sweeps");
        sessions.sweep(start + seconds(1199));
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn a_session_ends_when_its_viewer_is_not_heard_of() {
        let (sessions, gauge) = sessions();
        let (owner, start) = (Owner::default(), Instant::now());
        let token = sessions.claim(owner, start).unwrap().token().to_string();
        let enter = |after| {
            sessions.enter(Some(&token), owner, Sign::Life, start + seconds(after)).is_some()
        };
        assert!(enter(59) && enter(118));
        sessions.sweep(start + seconds(177));
        assert_eq!(gauge.get(), 1);
        assert!(!enter(178));
        sessions.sweep(start + seconds(178));
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn a_session_that_is_at_work_does_not_end() {
        let (sessions, _) = sessions();
        let (owner, start) = (Owner::default(), Instant::now());
        let working = sessions.claim(owner, start).unwrap();
        sessions.sweep(start + seconds(10_000));
        assert!(!working.gone.is_cancelled());
        let (token, gone) = (working.token().to_string(), working.gone.clone());
        drop(working);
        sessions.sweep(start + seconds(10_000));
        assert!(gone.is_cancelled());
        assert!(sessions.enter(Some(&token), owner, Sign::Life, start).is_none());
    }

    #[test]
    fn there_are_so_many_sessions_and_one_that_ends_makes_room() {
        let (sessions, gauge) = sessions();
        let (owner, start) = (Owner::default(), Instant::now());
        let tokens: Vec<String> =
            (0..3).map(|_| sessions.claim(owner, start).unwrap().token().to_string()).collect();
        assert!(sessions.claim(owner, start).is_none());
        sessions.release(Some(&tokens[0]), owner);
        assert_eq!(gauge.get(), 2);
        assert!(sessions.claim(owner, start).is_some());
        // Those that have run out make room by themselves.
        assert!(sessions.claim(owner, start + seconds(60)).is_some());
        assert_eq!(gauge.get(), 1);
        for _ in 0..200 {
            let later = start + seconds(60);
            let token = sessions.claim(owner, later).unwrap().token().to_string();
            sessions.release(Some(&token), owner);
        }
        assert_eq!((gauge.get(), lock(&sessions.open).len()), (1, 1));
    }

    #[test]
    fn a_session_belongs_to_the_key_that_claimed_it() {
        let keys = Keys::of_lines("0123456789abcdef\nfedcba9876543210").unwrap();
        let owner = |key: &str| keys.owner(Some(format!("Bearer {key}").as_bytes())).unwrap();
        let (one, other) = (owner("0123456789abcdef"), owner("fedcba9876543210"));
        let (sessions, _) = sessions();
        let start = Instant::now();
        let session = sessions.claim(one, start).unwrap();
        let token = Some(session.token());
        assert!(sessions.enter(token, other, Sign::Life, start).is_none());
        sessions.release(token, other);
        assert!(sessions.enter(token, one, Sign::Life, start).is_some());
        assert!(sessions.enter(None, one, Sign::Life, start).is_none());
        assert!(sessions.enter(Some("ses_0"), one, Sign::Life, start).is_none());
    }
}
