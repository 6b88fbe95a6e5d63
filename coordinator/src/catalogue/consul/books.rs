//! What was read from Consul, by the name of the service. Pure.
//!
//! What was written is known before the watch of its name says so. An answer that was on its way
//! meanwhile is older, and takes nothing back: of each entry the one with the higher index counts.

use std::collections::BTreeMap;

use calvin_consul::{Advance, catalog::CatalogService, health::ServiceHealth};

use super::decide::Leftover;

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Books {
    pages: BTreeMap<String, Page>,
}

#[derive(Debug, Default)]
struct Page {
    /// Nothing before the first answer.
    entries: Option<Vec<ServiceHealth>>,
    /// It was read by a query that waits, and each change of it is heard of.
    is_heard: bool,
    /// By node and id: what was written, and not seen in an answer yet.
    written: BTreeMap<(String, String), Written>,
}

#[derive(Debug)]
enum Written {
    /// It is so now.
    As(CatalogService),
    /// It was taken out when it had this index. What has a higher one was made since.
    Out(u64),
}

impl Books {
    /// Takes an answer.
    pub(super) fn take(&mut self, name: &str, advance: Advance, mut read: Vec<ServiceHealth>) {
        let page = self.pages.entry(name.to_owned()).or_default();
        match advance {
            // Servers were begun anew: their numbers say nothing about ours.
            Advance::Reset => page.written.clear(),
            Advance::First | Advance::Same | Advance::Changed => {}
        }
        page.written.retain(|(node, id), written| {
            let is_it = |one: &ServiceHealth| one.node.name == *node && one.service.id == *id;
            let Some(place) = read.iter().position(is_it) else {
                return false;
            };
            let found = &mut read[place].service;
            match written {
                Written::As(written) if found.modify_index < written.modify_index => {
                    found.clone_from(written);
                    true
                }
                // It was taken out only because it had this index still.
                Written::Out(index) if found.modify_index <= *index => {
                    read.remove(place);
                    true
                }
                Written::As(_) | Written::Out(_) => false,
            }
        });
        page.entries = Some(read);
        page.is_heard = true;
    }

    /// Takes the answer to a query that did not wait: nobody hears of what changes after it.
    pub(super) fn take_seldom(&mut self, name: &str, advance: Advance, read: Vec<ServiceHealth>) {
        self.take(name, advance, read);
        self.hear_only(|heard| heard != name);
    }

    /// Of other names no change is heard of any more.
    pub(super) fn hear_only(&mut self, is_heard: impl Fn(&str) -> bool) {
        for (name, page) in &mut self.pages {
            page.is_heard &= is_heard(name);
        }
    }

    /// Takes what was read apart from the watch, as the leader and the others have it: it is newer than
    /// all that was written.
    pub(super) fn replace(&mut self, name: &str, read: Vec<ServiceHealth>) {
        let page = self.pages.entry(name.to_owned()).or_default();
        page.written = read
            .iter()
            .map(|one| {
                let key = (one.node.name.clone(), one.service.id.clone());
                (key, Written::As(one.service.clone()))
            })
            .collect();
        page.entries = Some(read);
    }

    /// Notes what was written and read back.
    pub(super) fn wrote(&mut self, node: &str, service: &CatalogService) {
        let Some(page) = self.pages.get_mut(&service.service) else {
            return;
        };
        let mut entries = page.entries.iter_mut().flatten();
        let entry = entries.find(|one| one.node.name == node && one.service.id == service.id);
        if let Some(entry) = entry {
            entry.service = service.clone();
            let key = (node.to_owned(), service.id.clone());
            page.written.insert(key, Written::As(service.clone()));
        }
    }

    /// Notes what was taken out.
    pub(super) fn took_out(&mut self, gone: &Leftover) {
        let Some(page) = self.pages.get_mut(&gone.service) else {
            return;
        };
        if let Some(entries) = &mut page.entries {
            entries.retain(|one| !(one.node.name == gone.node && one.service.id == gone.id));
        }
        let key = (gone.node.clone(), gone.id.clone());
        page.written.insert(key, Written::Out(gone.index));
    }

    /// Whether a name was read so that something can be decided on it.
    pub(super) fn has_read(&self, name: &str) -> bool {
        let page = self.pages.get(name);
        page.is_some_and(|page| page.is_heard)
    }

    /// Forgets what nobody asks for any more.
    pub(super) fn keep_only(&mut self, is_asked_for: impl Fn(&str) -> bool) {
        self.pages.retain(|name, _| is_asked_for(name));
    }

    /// Every entry that was read, whosever it is.
    pub(super) fn entries(&self) -> impl Iterator<Item = &ServiceHealth> {
        let pages = self.pages.values();
        pages.flat_map(|page| page.entries.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use calvin_consul::catalog::Node;

    use super::*;

    fn entry(id: &str, index: u64, tag: &str) -> ServiceHealth {
        ServiceHealth {
            node: Node {
                name: id.to_owned(),
                ..Node::default()
            },
            service: CatalogService {
                id: format!("web:{id}"),
                service: "web".to_owned(),
                tags: vec![tag.to_owned()],
                enable_tag_override: true,
                modify_index: index,
                ..CatalogService::default()
            },
            checks: Vec::new(),
        }
    }

    fn tags(books: &Books) -> Vec<String> {
        let entries = books.entries();
        entries.flat_map(|one| one.service.tags.clone()).collect()
    }

    #[test]
    fn an_answer_that_was_on_its_way_takes_nothing_back() {
        let mut books = Books::default();
        assert!(!books.has_read("web"));
        books.take("web", Advance::First, vec![entry("web-a", 7, "standby")]);
        books.wrote("web-a", &entry("web-a", 9, "active").service);
        assert_eq!(tags(&books), ["active"]);
        books.take("web", Advance::Changed, vec![entry("web-a", 8, "standby")]);
        assert_eq!(tags(&books), ["active"]);
        books.take("web", Advance::Changed, vec![entry("web-a", 9, "active")]);
        books.take("web", Advance::Changed, vec![entry("web-a", 10, "standby")]);
        assert_eq!(tags(&books), ["standby"]);
        // Numbers of servers that were begun anew are lower, and count.
        books.wrote("web-a", &entry("web-a", 19, "active").service);
        books.take("web", Advance::Reset, vec![entry("web-a", 3, "standby")]);
        assert_eq!(tags(&books), ["standby"]);
    }

    #[test]
    fn what_is_asked_for_seldom_is_known_and_not_decided_on() {
        let mut books = Books::default();
        let old = || vec![entry("web-a", 7, "standby")];
        books.take_seldom("web", Advance::First, old());
        assert_eq!(tags(&books), ["standby"]);
        assert!(!books.has_read("web"));
        books.take("web", Advance::First, old());
        assert!(books.has_read("web"));
        books.hear_only(|name| name != "web");
        assert!(!books.has_read("web"));
        assert_eq!(tags(&books), ["standby"]);
    }

    #[test]
    fn what_was_taken_out_stays_out_until_an_answer_lacks_it() {
        let mut books = Books::default();
        let old = entry("web-a", 7, "standby");
        books.take("web", Advance::First, vec![old.clone()]);
        books.took_out(&Leftover::of(&old));
        assert_eq!(tags(&books), [""; 0]);
        books.take("web", Advance::Changed, vec![old.clone()]);
        assert_eq!(tags(&books), [""; 0]);
        books.take("web", Advance::Changed, vec![]);
        books.take("web", Advance::Changed, vec![old]);
        assert_eq!(tags(&books), ["standby"]);
    }

    #[test]
    fn what_was_made_anew_before_an_answer_lacked_it_is_shown() {
        let mut books = Books::default();
        let old = entry("web-a", 7, "standby");
        books.take("web", Advance::First, vec![old.clone()]);
        books.took_out(&Leftover::of(&old));
        books.take("web", Advance::Changed, vec![old.clone()]);
        assert_eq!(tags(&books), [""; 0]);
        books.take("web", Advance::Changed, vec![entry("web-a", 9, "again")]);
        assert_eq!(tags(&books), ["again"]);
        // And it stays so: nothing is hidden any more.
        books.take("web", Advance::Changed, vec![entry("web-a", 9, "again")]);
        assert_eq!(tags(&books), ["again"]);
    }
}
