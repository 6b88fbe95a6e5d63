//! What stands in front of an environment: both kinds of HAProxy, and clients that count.

use tempfile::TempDir;

use super::{
    consul_template::{Access, Templated},
    haproxy::{Haproxy, Route},
    images::WEB,
    load::Load,
    whole::{DOMAIN, Whole},
};
use crate::support::until;

/// Both kinds of HAProxy in front of an environment, and clients of each.
pub(crate) struct Front {
    pub(crate) resolved: Load,
    pub(crate) untagged: Load,
    pub(crate) written: Load,
    pub(crate) haproxy: Haproxy,
    pub(crate) templated: Templated,
    _directories: [TempDir; 2],
}

impl Front {
    /// Starts them and waits until they send requests to so many.
    pub(crate) async fn start(whole: &Whole, count: usize) -> Self {
        let directories = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let routes = [Route::active(WEB, DOMAIN), Route::untagged(WEB, DOMAIN)];
        let haproxy = Haproxy::with_resolvers(directories[0].path(), whole.edge.dns, &routes).await;
        let route = Route::active(WEB, DOMAIN);
        let access = Access {
            address: whole.edge.api,
            token: &whole.edge.token,
            authority: &whole.datacenter.authority,
        };
        let templated = Templated::start(directories[1].path(), &access, WEB, &route).await;
        until("both to find all", async || {
            let found = [
                haproxy.servers(0).await.len(),
                haproxy.servers(1).await.len(),
                templated.written().len(),
            ];
            if found == [count; 3] {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
        let front = Self {
            resolved: Load::start(routes[0].listen),
            untagged: Load::start(routes[1].listen),
            written: Load::start(route.listen),
            haproxy,
            templated,
            _directories: directories,
        };
        for load in front.all() {
            load.until_more(100).await;
        }
        front.assert_none_failed("before anything was done");
        front
    }

    /// Every client.
    pub(crate) fn all(&self) -> [&Load; 3] {
        [&self.resolved, &self.untagged, &self.written]
    }

    /// Requests altogether.
    pub(crate) fn requests(&self) -> u64 {
        self.all().iter().map(|load| load.seen().requests).sum()
    }

    pub(crate) fn assert_none_failed(&self, what: &str) {
        let names = ["by resolvers", "without a tag", "by consul-template"];
        for (load, name) in self.all().into_iter().zip(names) {
            load.assert_none_failed(&format!("{what}, {name}"));
        }
    }

    /// Waits until so many more requests were made altogether.
    pub(crate) async fn until_more(&self, more: u64) {
        let before = self.requests();
        until("requests through all", async || {
            let now = self.requests();
            if now >= before + more {
                Ok(())
            } else {
                Err(now - before)
            }
        })
        .await;
    }
}
