//! The members of an ensemble as a configuration names them: how many, of which networks, and from which seeds.

use crate::config::Config;
use crate::network::NetworkConfig;

/// How far apart the seeds of members are, so that ensembles of neighbouring seeds share none.
const MEMBER_SEEDS: u64 = 1_000_000;

/// Encoders at most, as many as the edge's own integers take: one for each member, two with `network.mirror`.
const MAX_ENCODERS: i64 = 16;

/// Length of an embedding at most, as bundles have it.
const MAX_DIM: i64 = 4096;

impl Config {
    /// What the network is called in manifests and reports: `edge`, or, of an ensemble, `3 x edge` or `resnet18 + edge-l`; with
    /// `network.mirror` `edge and its mirror`.
    pub fn network_name(&self) -> String {
        let name = |network: &NetworkConfig| match network.mirror {
            true => format!("{} and its mirror", network.kind.name()),
            false => network.kind.name().to_owned(),
        };
        let names: Vec<String> = self.member_networks().map(name).collect();
        match names.as_slice() {
            [first, _, ..] if names.iter().all(|name| name == first) => format!("{} x {first}", names.len()),
            _ => names.join(" + "),
        }
    }

    /// Members of the ensemble, 1 for a network alone.
    pub fn members(&self) -> u32 {
        match self.train.members {
            0 => 1 + self.ensemble.len() as u32,
            members => members,
        }
    }

    /// The configuration that member `number` is trained with, from 1 on: the first member's is this one, and each
    /// other has a network and a seed of its own, and no members. All go by one choice of images.
    pub fn of_member(&self, number: u32) -> Config {
        let mut config = self.clone();
        if number > 1 {
            // TOML has no integers beyond those of 63 bits.
            config.seed = self.seed.wrapping_add(u64::from(number - 1) * MEMBER_SEEDS) & (u64::MAX >> 1);
            config.network = self.networks().nth(number as usize - 1).unwrap_or(&self.network).clone();
            (config.ensemble, config.train.members, config.network.weight) = (Vec::new(), 1, 1.0);
        }
        config
    }

    /// Says what is wrong with the members, if anything is.
    pub(crate) fn check_ensemble(&self) -> Result<(), String> {
        let members = self.members();
        let encoders = |network: &NetworkConfig| if network.mirror { 2 } else { 1 };
        let all: i64 = self.member_networks().map(encoders).sum();
        let mirrored = all > i64::from(members);
        if mirrored && self.augment.hflip == 0.0 {
            return Err(
                "network.mirror: in training no picture would be mirrored; set augment.hflip = 0.5, or leave it out"
                    .into(),
            );
        }
        let twice = if mirrored { ", twice with network.mirror" } else { "" };
        if all > MAX_ENCODERS {
            return Err(format!(
                "train.members, or [network] with each [[ensemble]]{twice}: {all}; has to be at most {MAX_ENCODERS}"
            ));
        }
        for (number, network) in (1..).zip(&self.ensemble) {
            self.check_beside(network).map_err(|e| format!("[[ensemble]], network {number}: {e}"))?;
        }
        let dim: i64 = self.member_networks().map(|network| encoders(network) * network.embedding_dim).sum();
        if dim > MAX_DIM {
            return Err(format!(
                "network.embedding_dim: those of the {members} members{twice} are {dim} together; has to be at most {MAX_DIM}: \
                 lower them, or train.members"
            ));
        }
        Ok(())
    }

    /// Says what is wrong with a network beside the first, if anything is.
    fn check_beside(&self, network: &NetworkConfig) -> Result<(), String> {
        network.check(self.input.size)?;
        let [grid, first] = [network, &self.network].map(|n| n.grid(self.input.size));
        if grid == first {
            return Ok(());
        }
        let places = |grid: Option<[usize; 2]>| match grid {
            Some([rows, columns]) => format!("{rows} x {columns}"),
            None => "no".into(),
        };
        Err(format!(
            "network.patch: it has {} places and [network] {}; all members need the same network.patch.stride, or none of \
             them the table",
            places(grid),
            places(first)
        ))
    }

    /// The networks that members have, first to last, and from the first again.
    fn networks(&self) -> impl Iterator<Item = &NetworkConfig> {
        std::iter::once(&self.network).chain(&self.ensemble).cycle()
    }

    /// Each member's network.
    pub(crate) fn member_networks(&self) -> impl Iterator<Item = &NetworkConfig> {
        self.networks().take(self.members() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        Config::load_text("x", text, &[]).map_err(|e| e.to_string())
    }

    #[test]
    fn members_are_of_the_networks_in_turn() {
        let with = |members: u32| {
            let sets = format!("seed = 7\nname = 'x'\n[train]\nmembers = {members}\n");
            load(&format!("{sets}[network]\nkind = 'resnet18'\n[[ensemble]]\nkind = 'edge-l'\n")).unwrap()
        };
        let names = [0, 1, 2, 3].map(|members| with(members).network_name());
        assert_eq!(names, ["resnet18 + edge-l", "resnet18", "resnet18 + edge-l", "resnet18 + edge-l + resnet18"]);
        let config = with(0);
        assert_eq!((config.of_member(1), load(&config.to_toml()).unwrap()), (config.clone(), config.clone()));
        let second = config.of_member(2);
        assert_eq!((second.network_name(), second.members(), second.seed), ("edge-l".into(), 1, 1_000_007));
        assert_eq!(load(&second.to_toml()).unwrap(), second);
        assert_eq!(load("[train]\nmembers = 3\n").unwrap().network_name(), "3 x edge");
    }

    #[test]
    fn networks_with_patches_stand_beside_each_other() {
        let patches =
            |stride: u32| format!("[network.patch]\nstride = 8\n[[ensemble]]\n[ensemble.patch]\nstride = {stride}\n");
        let config = load(&patches(8)).unwrap();
        assert_eq!(load(&config.to_toml()).unwrap(), config);
        let error = load(&patches(16)).unwrap_err();
        assert!(error.contains("network 1: network.patch: it has 8 x 8 places and [network] 16 x 16"), "{error}");
        let error = load("[network.patch]\n[[ensemble]]\n").unwrap_err();
        assert!(error.contains("it has no places and [network] 16 x 16"), "{error}");
    }

    #[test]
    fn what_no_ensemble_can_be_is_refused() {
        let error = load("[[ensemble]]\n[[ensemble]]\nwidths = [1]\n").unwrap_err();
        assert!(error.contains("[[ensemble]], network 2: network.widths"), "{error}");
        let error = load(&"[[ensemble]]\nembedding_dim = 64\n".repeat(16)).unwrap_err();
        assert!(error.contains("[[ensemble]]: 17;"), "{error}");
        assert!(load("[train]\nmembers = 17\n").unwrap_err().contains("train.members"));
        let mirrored = "[augment]\nhflip = 0.5\n[network]\nmirror = true\nembedding_dim =";
        load(&format!("{mirrored} 2048\n")).unwrap();
        assert!(load(&format!("{mirrored} 4096\n")).unwrap_err().contains("8192 together"));
        let error = load(&format!("{mirrored} 64\n[train]\nmembers = 9\n")).unwrap_err();
        assert!(error.contains("network.mirror: 18;"), "{error}");
        assert!(load("[network]\nmirror = true\n").unwrap_err().contains("augment.hflip"));
        load("[train]\nmembers = 8\n").unwrap();
        let error = load("[train]\nmembers = 9\n").unwrap_err();
        assert!(error.contains("4608 together"), "{error}");
    }
}
