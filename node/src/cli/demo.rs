//! `hypergolix demo`.

use super::DemoArgs;

/// Later.
pub fn run(_: DemoArgs) -> anyhow::Result<()> {
    anyhow::bail!("later")
}
