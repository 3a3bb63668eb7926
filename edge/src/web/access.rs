//! Who may see the page: one password, sessions of browsers, tokens of programs. Password and tokens are kept in the event store,
//! as what they hash to; sessions end with the program.

use crate::store::{Store, StoreError};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names in the store.
const PASSWORD: &str = "web.password";
const TOKENS: &str = "web.tokens";

/// A password has so many characters at least.
pub const LEAST_PASSWORD: usize = 8;

/// More are hashed no more: hashing takes time that grows with the length.
const MOST_PASSWORD: usize = 1024;

/// A session ends when it has not been used for so long.
const SESSION: Duration = Duration::from_secs(12 * 3600);

/// So many sessions there are at most; the one that was not used for longest goes.
const MOST_SESSIONS: usize = 100;

/// So many tokens there may be.
const MOST_TOKENS: usize = 50;

/// So many wrong passwords cost nothing.
const FREE_ATTEMPTS: u32 = 3;

/// The longest pause after a wrong password.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Addresses whose wrong passwords are remembered.
const MOST_ADDRESSES: usize = 1000;

/// Why somebody is not let in, or a password is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is too short or too long.
    #[error("a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters")]
    Length,
    /// It is not the password.
    #[error("that is not the password")]
    Wrong,
    /// Too many wrong ones came before.
    #[error("too many wrong passwords: wait {} s", .0.as_secs_f64().ceil())]
    Wait(Duration),
    /// The setup code is not the one in the log.
    #[error("that is not the setup code; it stands in the log of salad-edge")]
    WrongCode,
    /// There is a password already.
    #[error("a password has been set already; `salad-edge password --reset` takes it away")]
    IsSet,
    /// There are as many tokens as there may be.
    #[error("there are {MOST_TOKENS} tokens already: revoke one")]
    TooMany,
    /// It cannot be hashed.
    #[error("the password cannot be hashed")]
    Hash,
}

/// A program's access, without its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is for.
    pub name: String,
    /// When it was made, UTC.
    pub created: Timestamp,
    /// SHA-256 of the token, hexadecimal.
    pub sha256: String,
}

#[derive(Debug)]
struct Session {
    csrf: String,
    /// What the password hashed to when it began: with another one it is over.
    hash: String,
    used: Instant,
}

/// The door.
#[derive(Debug)]
pub struct Access {
    store: Arc<Store>,
    /// What has to be known to set the first password, where others than this machine can reach the page.
    code: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By what SHA-256 makes of the cookie.
    sessions: HashMap<String, Session>,
    throttle: Throttle,
}

impl Access {
    /// The door of a store's page; `is_open` says that others than this machine can reach it.
    pub fn new(store: Arc<Store>, is_open: bool) -> Result<Access, StoreError> {
        let access = Access { store, code: is_open.then(|| secret()[..8].to_owned()), state: Mutex::default() };
        if let (Some(code), false) = (&access.code, access.has_password()?) {
            log::warn!("the page has no password yet; its setup code is {code}");
        }
        Ok(access)
    }

    /// Whether there is a password.
    pub fn has_password(&self) -> Result<bool, StoreError> {
        Ok(self.store.setting(PASSWORD)?.is_some())
    }

    /// Whether the first password takes a setup code.
    pub fn wants_code(&self) -> bool {
        self.code.is_some()
    }

    /// Sets the first password. Slow, as hashing has to be.
    pub fn set_first(&self, password: &str, code: &str) -> Result<(), AccessError> {
        if self.has_password()? {
            return Err(AccessError::IsSet);
        }
        if self.code.as_ref().is_some_and(|wanted| digest(wanted) != digest(code.trim())) {
            return Err(AccessError::WrongCode);
        }
        self.set(password)
    }

    /// Changes the password; all sessions end. Slow.
    pub fn change(&self, old: &str, new: &str, from: IpAddr) -> Result<(), AccessError> {
        self.check(old, from, Instant::now())?;
        self.set(new)
    }

    /// Begins a session; gives its cookie. Slow.
    pub fn log_in(&self, password: &str, from: IpAddr, now: Instant) -> Result<String, AccessError> {
        let hash = self.check(password, from, now)?;
        let cookie = secret();
        let mut state = self.state();
        if state.sessions.len() >= MOST_SESSIONS {
            let oldest = state.sessions.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| key.clone());
            oldest.map(|key| state.sessions.remove(&key));
        }
        state.sessions.insert(digest(&cookie), Session { csrf: secret(), hash, used: now });
        Ok(cookie)
    }

    /// What forms of a session have to carry; `None` where the session is none or over.
    pub fn session(&self, cookie: &str, now: Instant) -> Option<String> {
        let hash = self.store.setting(PASSWORD).ok()?;
        let mut state = self.state();
        let key = digest(cookie);
        let session = state.sessions.get_mut(&key)?;
        if now.saturating_duration_since(session.used) > SESSION || hash.as_ref() != Some(&session.hash) {
            state.sessions.remove(&key);
            return None;
        }
        session.used = now;
        Some(session.csrf.clone())
    }

    /// Ends a session.
    pub fn log_out(&self, cookie: &str) {
        self.state().sessions.remove(&digest(cookie));
    }

    /// Whether a program's token is one.
    pub fn is_token(&self, token: &str) -> Result<bool, StoreError> {
        let sha256 = digest(token);
        Ok(self.tokens()?.iter().any(|known| known.sha256 == sha256))
    }

    /// All tokens.
    pub fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        let text = self.store.setting(TOKENS)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Makes a token and gives it, for the only time.
    pub fn make_token(&self, name: &str, now: Timestamp) -> Result<String, AccessError> {
        let mut tokens = self.tokens()?;
        if tokens.len() >= MOST_TOKENS {
            return Err(AccessError::TooMany);
        }
        let token = format!("salad_{}", secret());
        let name = name.trim().chars().filter(|c| !c.is_control()).take(64).collect();
        tokens.push(Token { name, created: now, sha256: digest(&token) });
        self.keep_tokens(&tokens)?;
        Ok(token)
    }

    /// Takes a token away, by its SHA-256.
    pub fn revoke(&self, sha256: &str) -> Result<(), StoreError> {
        let mut tokens = self.tokens()?;
        tokens.retain(|token| token.sha256 != sha256);
        self.keep_tokens(&tokens)
    }

    fn keep_tokens(&self, tokens: &[Token]) -> Result<(), StoreError> {
        self.store.set(TOKENS, serde_json::to_string(tokens).ok().as_deref())
    }

    /// Gives what the password hashes to.
    fn check(&self, password: &str, from: IpAddr, now: Instant) -> Result<String, AccessError> {
        let wait = self.state().throttle.wait(from, now);
        if !wait.is_zero() {
            return Err(AccessError::Wait(wait));
        }
        // Before the answer is known, so that many at once gain nothing.
        self.state().throttle.wrong(from, now);
        let hash = self.store.setting(PASSWORD)?.unwrap_or_default();
        let is_right = password.len() <= MOST_PASSWORD
            && PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        if !is_right {
            log::warn!("a wrong password for the page, from {from}");
            return Err(AccessError::Wrong);
        }
        self.state().throttle.right(from);
        Ok(hash)
    }

    fn set(&self, password: &str) -> Result<(), AccessError> {
        if password.chars().count() < LEAST_PASSWORD || password.len() > MOST_PASSWORD {
            return Err(AccessError::Length);
        }
        let hash = Argon2::default().hash_password(password.as_bytes()).map_err(|_| AccessError::Hash)?;
        Ok(self.store.set(PASSWORD, Some(&hash.to_string()))?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the password away, so that a first one can be set again; tokens go too.
pub fn reset(store: &Store) -> Result<(), StoreError> {
    store.set(PASSWORD, None)?;
    store.set(TOKENS, None)
}

/// 256 random bits, hexadecimal.
fn secret() -> String {
    let mut bytes = [0; 32];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // Nothing that is secret can be made; what is made must not be guessed either.
        log::error!("the system gives no random numbers: {error}");
        std::process::abort();
    }
    hex(&bytes)
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Slows down whoever guesses: after a few wrong passwords there is a pause before the next is looked at, doubled with each, for
/// an address and, more patiently, for all together.
#[derive(Debug, Default)]
struct Throttle {
    addresses: HashMap<IpAddr, Wrong>,
    all: Wrong,
}

#[derive(Debug, Clone, Copy, Default)]
struct Wrong {
    count: u32,
    last: Option<Instant>,
}

impl Wrong {
    fn wait(&self, free: u32, now: Instant) -> Duration {
        let Some(last) = self.last.filter(|_| self.count > free) else { return Duration::ZERO };
        let pause = Duration::from_secs(1 << (self.count - free - 1).min(10)).min(LONGEST_PAUSE);
        pause.saturating_sub(now.saturating_duration_since(last))
    }

    fn add(&mut self, now: Instant) {
        // What was long ago is forgiven.
        let is_old = self.last.is_none_or(|last| now.saturating_duration_since(last) > 10 * LONGEST_PAUSE);
        *self = Wrong { count: if is_old { 1 } else { self.count + 1 }, last: Some(now) };
    }
}

impl Throttle {
    fn wait(&self, from: IpAddr, now: Instant) -> Duration {
        let own = self.addresses.get(&from).map_or(Duration::ZERO, |wrong| wrong.wait(FREE_ATTEMPTS, now));
        own.max(self.all.wait(10 * FREE_ATTEMPTS, now))
    }

    fn wrong(&mut self, from: IpAddr, now: Instant) {
        if self.addresses.len() >= MOST_ADDRESSES {
            self.addresses.retain(|_, wrong| !wrong.wait(FREE_ATTEMPTS, now).is_zero());
        }
        if self.addresses.len() < MOST_ADDRESSES || self.addresses.contains_key(&from) {
            self.addresses.entry(from).or_default().add(now);
        }
        self.all.add(now);
    }

    fn right(&mut self, from: IpAddr) {
        self.addresses.remove(&from);
        self.all = Wrong::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreSettings;
    use std::net::Ipv4Addr;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    fn access(dir: &std::path::Path, is_open: bool) -> Access {
        let settings = StoreSettings { path: dir.join("events.db"), max_age: Duration::MAX, max_bytes: u64::MAX };
        let store = Store::open(settings, Vec::new(), Timestamp::UNIX_EPOCH).unwrap();
        Access::new(Arc::new(store), is_open).unwrap()
    }

    #[test]
    fn a_password_opens_sessions_that_end() {
        let dir = tempfile::tempdir().unwrap();
        let access = access(dir.path(), false);
        let now = Instant::now();
        assert!(!access.has_password().unwrap());
        assert!(matches!(access.log_in("", HOME, now), Err(AccessError::Wrong)));
        assert!(matches!(access.set_first("short", ""), Err(AccessError::Length)));
        access.set_first("a good one", "").unwrap();
        assert!(matches!(access.set_first("another one", ""), Err(AccessError::IsSet)));
        assert!(matches!(access.log_in("a bad one", HOME, now), Err(AccessError::Wrong)));
        let cookie = access.log_in("a good one", HOME, now).unwrap();
        let csrf = access.session(&cookie, now).unwrap();
        assert_ne!(cookie, csrf);
        assert_eq!(access.session("no cookie", now), None);
        assert_eq!(access.session(&cookie, now + SESSION), Some(csrf));
        assert_eq!(access.session(&cookie, now + 3 * SESSION), None);
        let cookie = access.log_in("a good one", HOME, now).unwrap();
        access.change("a good one", "a better one", HOME).unwrap();
        assert_eq!(access.session(&cookie, now), None);
        let cookie = access.log_in("a better one", HOME, now).unwrap();
        access.log_out(&cookie);
        assert_eq!(access.session(&cookie, now), None);
        let cookie = access.log_in("a better one", HOME, now).unwrap();
        reset(&access.store).unwrap();
        assert!(!access.has_password().unwrap());
        assert_eq!(access.session(&cookie, now), None);
    }

    #[test]
    fn a_page_that_others_reach_takes_a_code_for_its_first_password() {
        let dir = tempfile::tempdir().unwrap();
        let access = access(dir.path(), true);
        assert!(matches!(access.set_first("a good one", ""), Err(AccessError::WrongCode)));
        let code = access.code.clone().unwrap();
        access.set_first("a good one", &format!(" {code} ")).unwrap();
    }

    #[test]
    fn who_guesses_is_slowed_and_nobody_else() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..20 {
            throttle.wrong(AWAY, now);
        }
        assert_eq!(throttle.wait(AWAY, now), LONGEST_PAUSE);
        assert_eq!(throttle.wait(AWAY, now + LONGEST_PAUSE), Duration::ZERO);
        assert_eq!(throttle.wait(HOME, now), Duration::ZERO);
        // From many addresses.
        for last in 0..=255 {
            throttle.wrong(IpAddr::V4(Ipv4Addr::new(10, 1, 0, last)), now);
        }
        assert_eq!(throttle.wait(HOME, now), LONGEST_PAUSE);
        throttle.right(HOME);
        assert_eq!(throttle.wait(HOME, now), Duration::ZERO);
        // Twenty in a row take minutes.
        let (mut throttle, mut at) = (Throttle::default(), now);
        for _ in 0..20 {
            at += throttle.wait(AWAY, at);
            throttle.wrong(AWAY, at);
        }
        assert!(at - now > Duration::from_secs(600), "{:?}", at - now);
    }

    #[test]
    fn tokens_are_known_until_they_are_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let access = access(dir.path(), false);
        let token = access.make_token(" home\nassistant ", Timestamp::UNIX_EPOCH).unwrap();
        assert!(access.is_token(&token).unwrap() && !access.is_token("salad_").unwrap());
        let tokens = access.tokens().unwrap();
        assert_eq!((tokens.len(), tokens[0].name.as_str()), (1, "homeassistant"));
        assert_ne!(tokens[0].sha256, token);
        access.revoke(&tokens[0].sha256).unwrap();
        assert!(!access.is_token(&token).unwrap());
    }
}
