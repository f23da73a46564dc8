//! The effective configuration as pages show it.

use tokio::time::Instant;

use super::{Live, NacosState, Problem};
use crate::http::ConfigView;

impl ConfigView for Live {
    fn toml(&self, now: Instant) -> anyhow::Result<String> {
        self.now().to_toml(now)
    }

    fn checks(&self, now: Instant) -> String {
        let effective = self.now();
        let mut lines = String::new();
        if let Some(nacos) = &effective.nacos {
            let mark = match nacos.state {
                NacosState::Found => '+',
                NacosState::NotAsked | NacosState::Missing | NacosState::Failing(_) => '!',
            };
            lines += &format!("[{mark}] configuration: {}\n", nacos.describe(now));
        }
        // Keys only: anybody may read this page, and values are for `/configz`.
        if let Some(problems) = &effective.refused {
            let keys = keys(&problems.0);
            lines += &format!("[!] configuration: the last document is refused: {keys}\n");
        }
        if !effective.awaiting_restart.is_empty() {
            let keys = keys(&effective.awaiting_restart);
            lines += &format!("[!] configuration: a change needs a restart: {keys}\n");
        }
        lines
    }
}

fn keys(problems: &[Problem]) -> String {
    let keys = problems.iter().map(|problem| match problem.key.as_str() {
        "" => "the document as a whole",
        key => key,
    });
    keys.collect::<Vec<_>>().join(", ")
}
