//! What belongs to one principal at one server and to nobody else: its share of the calls, the pauses that the server wants
//! from it, what it wishes for its connections, what it proved itself with.
//!
//! Shared by all connections of the principal, and gone with the last of them: there are no more than there are
//! connections. Decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::admission::Admission;
use crate::auth::Newest;
use crate::principal::Principal;
use crate::runtime::http::Pauses;
use crate::wishes::Wishes;

/// One principal's account.
#[derive(Debug)]
pub(crate) struct Account {
    /// Its calls at the same time, a share of all that the server gets: a flood of one delays nobody else (law 27).
    pub(crate) admission: Admission,
    /// A server that has enough of one principal may have nothing against the others.
    pub(crate) pauses: Arc<Pauses>,
    /// What the principal last proved itself with, where the server's credentials are exchanged for that.
    pub(crate) subject: Newest,
}

/// Those of one server.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    open: Mutex<BTreeMap<Principal, Weak<Account>>>,
    wishes: Mutex<BTreeMap<Principal, Weak<Wishes>>>,
}

impl Accounts {
    /// The account of a principal, for so many calls at the same time.
    pub(crate) fn of(&self, principal: &Principal, calls: usize) -> Arc<Account> {
        let mut open = lock(&self.open);
        open.retain(|_, account| account.strong_count() > 0);
        if let Some(account) = open.get(principal).and_then(Weak::upgrade) {
            return account;
        }
        let account = Arc::new(Account {
            admission: Admission::new(calls),
            pauses: Arc::default(),
            subject: Newest::default(),
        });
        open.insert(principal.clone(), Arc::downgrade(&account));
        account
    }

    /// For the driver: everybody's share is so large from now on.
    pub(crate) fn resize(&self, calls: usize) {
        for account in lock(&self.open).values().filter_map(Weak::upgrade) {
            account.admission.resize(calls);
        }
    }

    /// For the driver: nobody gets in any more.
    pub(crate) fn close(&self) {
        for account in lock(&self.open).values().filter_map(Weak::upgrade) {
            account.admission.close();
        }
    }

    /// What a principal wishes for its connections, made new if nobody has that in hand any more; `true`: it is new.
    pub(crate) fn wishes(
        &self,
        principal: &Principal,
        new: impl FnOnce() -> Wishes,
    ) -> (Arc<Wishes>, bool) {
        let mut all = lock(&self.wishes);
        all.retain(|_, wishes| wishes.strong_count() > 0);
        if let Some(wishes) = all.get(principal).and_then(Weak::upgrade) {
            return (wishes, false);
        }
        let wishes = Arc::new(new());
        all.insert(principal.clone(), Arc::downgrade(&wishes));
        (wishes, true)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_27_a_share_is_one_principals_alone_and_goes_with_it() {
        let accounts = Accounts::default();
        let (ann, bob) = (
            Principal::new("ann").unwrap(),
            Principal::new("bob").unwrap(),
        );
        let (of_ann, of_bob) = (accounts.of(&ann, 1), accounts.of(&bob, 1));
        assert!(Arc::ptr_eq(&of_ann, &accounts.of(&ann, 1)));
        let _all_of_it = of_ann.admission.try_acquire().unwrap();
        assert!(accounts.of(&ann, 1).admission.try_acquire().is_none());
        assert!(of_bob.admission.try_acquire().is_some());
        accounts.resize(2);
        assert!(of_ann.admission.try_acquire().is_some());
        drop(of_bob);
        drop(accounts.of(&ann, 1));
        assert_eq!(
            lock(&accounts.open).len(),
            1,
            "nothing is left of the others"
        );
    }
}
