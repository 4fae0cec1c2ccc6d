//! Orders of the operator, and figures for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use golix::Ghid;

use super::Persister;
use super::users::{self, User};
use crate::control::Control;
use crate::effect::Effect;
use crate::limits;
use crate::message::Message;
use crate::turn::Turn;
use crate::verdict;
use crate::view::{Table, ViewError};

impl Persister {
    pub(super) fn control(
        &mut self,
        turn: &mut Turn<'_>,
        id: u64,
        control: Control,
    ) -> Result<(), ViewError> {
        let answer = match control {
            Control::Figures => Ok(object(&self.figures(turn)?)),
            Control::Objects { .. }
            | Control::Register { .. }
            | Control::Publish { .. }
            | Control::Unpublish { .. }
            | Control::Published => Err("that is for users, not for servers".to_owned()),
            Control::Users { after } => Ok(self.users(turn, after.as_ref())?),
            Control::Invite => {
                let token: String =
                    turn.random::<16>().iter().fold(String::new(), |mut text, byte| {
                        let _ = write!(text, "{byte:02x}");
                        text
                    });
                turn.put(Table::Users, users::token_row(&token), []);
                Ok(format!("{{\"token\":\"{token}\"}}"))
            }
            Control::Admit { identity, registered } => {
                let answer = self.change(turn, &identity, |user| user.registered = registered)?;
                if registered {
                    self.tell_of_room(turn, &identity);
                }
                answer
            }
            Control::Quota { identity, bytes, objects } => {
                let answer = self.change(turn, &identity, |user| {
                    if bytes.is_none() && objects.is_none() {
                        (user.bytes_max, user.objects_max) = (None, None);
                    }
                    user.bytes_max = bytes.or(user.bytes_max);
                    user.objects_max = objects.or(user.objects_max);
                })?;
                self.tell_of_room(turn, &identity);
                answer
            }
            Control::Ban { identity, banned } => {
                let answer = self.change(turn, &identity, |user| user.banned = banned)?;
                if banned {
                    for link in self.links.ids() {
                        let theirs = self.links.get(link);
                        if theirs.is_some_and(|state| state.proven.contains(&identity)) {
                            self.links.refuse(turn, link, verdict::BANNED);
                        }
                    }
                }
                answer
            }
        };
        let full = self.low_on_space && answer.is_err();
        let answer = if full { Err("the disk is full".to_owned()) } else { answer };
        turn.effect(Effect::Controlled { id, answer });
        Ok(())
    }

    /// Tells a user's devices that more may fit than before, as if they had registered anew.
    fn tell_of_room(&mut self, turn: &mut Turn<'_>, identity: &Ghid) {
        for link in self.links.ids() {
            if self.links.get(link).is_some_and(|state| state.proven.contains(identity)) {
                let result = verdict::STORED;
                self.links.send(turn, link, Message::Registered { id: 0, result });
            }
        }
    }

    fn change(
        &self,
        turn: &mut Turn<'_>,
        identity: &Ghid,
        change: impl FnOnce(&mut User),
    ) -> Result<Result<String, String>, ViewError> {
        let mut user = User::load(turn, identity)?;
        change(&mut user);
        user.save(turn, identity);
        Ok(Ok(self.user(identity, &user)))
    }

    fn user(&self, identity: &Ghid, user: &User) -> String {
        let quota = user.quota(&self.config);
        format!(
            "{{\"identity\":\"{identity}\",\"registered\":{},\"banned\":{},\"bytes\":{},\
             \"objects\":{},\"bytes_max\":{},\"objects_max\":{}}}",
            user.registered, user.banned, user.bytes, user.objects, quota.bytes, quota.objects
        )
    }

    fn users(&self, turn: &Turn<'_>, after: Option<&Ghid>) -> Result<String, ViewError> {
        let users = User::after(turn, after, limits::USERS_PAGE)?;
        let lines: Vec<String> = users.iter().map(|(id, user)| self.user(id, user)).collect();
        Ok(format!("[{}]", lines.join(",")))
    }

    fn figures(&self, turn: &Turn<'_>) -> Result<BTreeMap<&'static str, u64>, ViewError> {
        Ok(BTreeMap::from([
            ("objects", turn.len(Table::Heads)?),
            ("golix_objects", turn.len(Table::Objects)?),
            ("requests_waiting", turn.len(Table::Requests)?),
            ("debindings", turn.len(Table::Debindings)?),
            ("links", self.links.len() as u64),
            ("feed", self.feed.last()),
            ("announced", self.gossip.announced),
            ("announcements_heard", self.gossip.heard),
            ("announced_fetched", self.gossip.fetches.fetched),
        ]))
    }
}

fn object(figures: &BTreeMap<&'static str, u64>) -> String {
    let figures: Vec<String> =
        figures.iter().map(|(name, figure)| format!("\"{name}\":{figure}")).collect();
    format!("{{{}}}", figures.join(","))
}
