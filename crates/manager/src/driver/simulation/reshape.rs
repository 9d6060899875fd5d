//! A changed word about tools is a new look at the listing that is known: no connection hears of it.

use super::*;
use crate::config::Glob;

#[test]
fn law_5_law_28_f214_a_changed_filter_is_published_live_and_never_undoes_a_disable() {
    on_virtual_time(async {
        let world = World::new(1, |_, _, _| Script::default());
        let stage = Stage::start(world.opener(), 1, [ServerConfig::stdio("a", "fake")]).await;
        stage.until("a", "connected").await;
        let (slot, server) = (stage.slot("a"), stage.server("a"));
        let place = stage.desk.directory().find("a").unwrap();
        let filter = |exclude: &[&str]| {
            let mut config = slot.config.load().as_ref().clone();
            config.tools.exclude = exclude.iter().map(|glob| Glob::new(*glob)).collect();
            slot.config.store(Arc::new(config));
        };
        let shown = || server.catalog().unwrap().tools.items.len();
        let version = || stage.shared.current().version;
        assert_eq!((shown(), version()), (1, 1));

        filter(&["w*"]);
        stage.desk.reshape(&place).await.unwrap();
        assert_eq!((shown(), version()), (0, 2));
        assert_eq!(slot.listed.load().as_ref().unwrap().tools.items.len(), 1);
        assert_eq!(server.catalog().unwrap().hidden[0].name, "work");
        stage.desk.reshape(&place).await.unwrap();
        assert_eq!(version(), 2, "law 21: the same is published once");

        filter(&[]);
        stage.desk.reshape(&place).await.unwrap();
        assert_eq!((shown(), version()), (1, 3));
        let status = server.status();
        assert_eq!((status.generation, status.state), (1, "connected"));
        assert_eq!(status.counts.opens, 1, "nothing was opened for any of this");

        server.disable().await.unwrap();
        assert!(!stage.is_published("a"));
        filter(&["w*"]);
        stage.desk.reshape(&place).await.unwrap();
        assert!(!stage.is_published("a"), "law 5: nothing resurrects it");
        stage.shut_down().await;
        assert_nothing_is_left(&world).await;
    });
}
