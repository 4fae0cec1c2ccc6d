//! Make, lock, open; wrong passwords; damaged and hostile roots.

#![allow(missing_docs)]

mod common;

use common::{Disk, PASSWORD, Seeded, account};
use golix::Suite;
use hypergolix_engine::Table;
use hypergolix_engine::account::{
    self, AccountError, RecoveryKey, ScryptCost, UnlockError, create, summary, unlock,
    unlock_with_recovery_key,
};

#[test]
fn an_account_opens_with_its_password_alone() {
    let (account, disk) = account(0);
    let opened = unlock(&disk, PASSWORD).expect("the right password");
    assert_eq!(opened.fingerprint(), account.fingerprint());
    assert_eq!(opened.user_id(), account.user_id());
    let known = summary(&disk).expect("readable").expect("an account");
    assert_eq!((known.user_id, known.fingerprint), (account.user_id(), account.fingerprint()));
    for wrong in ["", "a password of test", "A password of tests"] {
        assert!(matches!(unlock(&disk, wrong), Err(UnlockError::WrongPassword)), "{wrong:?}");
    }
    assert!(matches!(unlock(&Disk::default(), PASSWORD), Err(UnlockError::NoAccount)));
}

#[test]
fn unicode_spellings_of_a_password_are_one() {
    let mut disk = Disk::default();
    // "é" composed and decomposed.
    let (_, writes, _) =
        create("caf\u{e9} au lait", Suite::Suite3, ScryptCost::LOWEST, &mut Seeded(1))
            .expect("made");
    disk.apply(writes);
    unlock(&disk, "cafe\u{301} au lait").expect("the same password");
}

#[test]
fn the_recovery_key_opens_it_too() {
    let mut disk = Disk::default();
    let (account, writes, recovery) =
        create(PASSWORD, Suite::Suite3, ScryptCost::LOWEST, &mut Seeded(2)).expect("made");
    disk.apply(writes);
    let text = recovery.to_text();
    let read = RecoveryKey::from_text(&text.to_uppercase().replace('-', " ")).expect("readable");
    let opened = unlock_with_recovery_key(&disk, &read).expect("opens");
    assert_eq!(opened.fingerprint(), account.fingerprint());
    let other = RecoveryKey::from_text(&"0".repeat(32)).expect("readable");
    assert!(matches!(unlock_with_recovery_key(&disk, &other), Err(UnlockError::WrongPassword)));
    for bad in ["", "12", &"g".repeat(32), &"0".repeat(33), "é"] {
        assert!(RecoveryKey::from_text(bad).is_none(), "{bad}");
    }
}

#[test]
fn bad_wishes_are_refused_before_any_work() {
    assert!(matches!(
        create("seven77", Suite::Suite3, ScryptCost::LOWEST, &mut Seeded(3)),
        Err(AccountError::PasswordTooShort)
    ));
    for log_n in [0, 14, 21, 255] {
        assert!(matches!(
            create(PASSWORD, Suite::Suite3, ScryptCost { log_n }, &mut Seeded(3)),
            Err(AccountError::Cost(n)) if n == log_n
        ));
    }
}

#[test]
fn a_damaged_root_is_not_a_wrong_password() {
    let (_, disk) = account(0);
    for table in [Table::Heads, Table::Objects] {
        let rows: Vec<_> = disk.0.keys().filter(|(t, _)| *t == table).cloned().collect();
        for row in rows {
            let mut damaged = disk.clone();
            damaged.0.remove(&row);
            match unlock(&damaged, PASSWORD) {
                // The frame itself is not needed to open an account.
                Ok(_) | Err(UnlockError::Damaged(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn nothing_of_the_account_is_in_clear_on_the_disk() {
    let (account, disk) = account(1);
    let debug = format!("{account:?}");
    assert!(debug.len() < 40, "no key material: {debug}");
    for value in disk.0.values() {
        let found = value.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
        assert!(!found, "the password is nowhere");
    }
    let _ = account::PASSWORD_LEN_MIN;
}
