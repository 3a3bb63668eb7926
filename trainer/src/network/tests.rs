//! What the networks give, cost and refuse.

use super::*;
use ndarray::{Axis, concatenate, s};
use tch::Device;

fn built(kind: NetworkKind, side: u32, widths: Vec<i64>) -> (nn::VarStore, Autoencoder, InputSpec) {
    tch::manual_seed(3);
    let config = NetworkConfig { kind, embedding_dim: 32, widths, ..Default::default() };
    config.check(side).unwrap();
    let input = InputSpec { width: side, height: side, channels: 3 };
    let store = nn::VarStore::new(Device::Cpu);
    let net = Autoencoder::new(&store.root(), &config, &input);
    (store, net, input)
}

#[test]
fn embeddings_are_unit_vectors_and_reconstructions_images() {
    let small = || vec![4, 8, 8, 16];
    for (kind, side, widths) in [
        (NetworkKind::EdgeSmall, 32, vec![]),
        (NetworkKind::Edge, 64, vec![]),
        (NetworkKind::EdgeLarge, 32, vec![]),
        (NetworkKind::Unet, 32, vec![8, 16, 16]),
        // What is left is 3 x 3 places, and no padding may enlarge it.
        (NetworkKind::Unet, 24, vec![8, 8, 8, 8]),
        (NetworkKind::Resnet18, 8, small()),
        (NetworkKind::Resnet18, 40, small()),
        (NetworkKind::Resnet18, 96, small()),
    ] {
        let (_store, net, _) = built(kind, side, widths);
        let side = i64::from(side);
        let z = net.encode(&Tensor::rand([5, 3, side, side], (Kind::Float, Device::Cpu)), true);
        assert_eq!(z.size(), [5, 32, 1, 1]);
        let norms = to_floats(&z.norm_scalaropt_dim(2, [1], false)).unwrap();
        assert!(norms.iter().all(|n| (n - 1.0).abs() < 1e-5), "{norms:?}");
        let x = net.decode(&z, true);
        assert_eq!(x.size(), [5, 3, side, side]);
        assert!(x.abs().max().double_value(&[]) <= 1.0);
    }
}

#[test]
fn mirrored_kernels_see_the_mirror_image() {
    // A network without strided convolutions, in which that is so to the pixel.
    let (_store, net, _) = built(NetworkKind::Unet, 32, vec![8, 16, 16]);
    let images = Tensor::rand([3, 3, 32, 32], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let encode = |net: &FoldedNet, x: &Tensor| net.encode(&to_floats(x).unwrap(), 3).unwrap();
    let (alone, both) = (net.fold().unwrap(), net.fold().unwrap().beside_its_mirror());
    let [seen, mirrored] = [&alone, &both].map(|net| encode(net, &images.flip([3])));
    let expected = concatenate![Axis(1), encode(&alone, &images), seen] / 2.0_f32.sqrt();
    let close = |a: &Array2<f32>, b: &Array2<f32>| (a - b).iter().all(|d| d.abs() < 1e-5);
    assert!(close(&encode(&both, &images), &expected));
    let swapped = concatenate![Axis(1), mirrored.slice(s![.., 32..]), mirrored.slice(s![.., ..32])];
    assert!(close(&swapped, &expected) && !close(&mirrored, &expected));

    // An ensemble's weights and names stay apart.
    let joined = FoldedNet::join([both, alone]).unwrap();
    assert_eq!(joined.members.iter().map(|member| member.weight).collect::<Vec<_>>(), [0.5, 0.5, 1.0]);
    let mut names: Vec<&str> = joined.convolutions().map(|conv| conv.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), joined.convolutions().count());
}

#[test]
fn with_patches_every_place_has_an_embedding_and_sees_what_was_asked_for() {
    let patch = PatchConfig { stride: 8, receptive_field: 40, ..PatchConfig::default() };
    let config = NetworkConfig { embedding_dim: 24, patch: Some(patch), ..NetworkConfig::default() };
    config.check(64).unwrap();
    let input = InputSpec { width: 64, height: 64, channels: 1 };
    let store = nn::VarStore::new(Device::Cpu);
    let net = Autoencoder::new(&store.root(), &config, &input);
    let images = Tensor::rand([3, 1, 64, 64], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let z = net.encode(&images, true);
    assert_eq!((z.size(), net.decode(&z, true).size()), (vec![3, 24, 8, 8], vec![3, 1, 64, 64]));
    let z = to_rows(&net.encode(&images, false));
    let folded = net.fold().unwrap();
    let found = folded.encode(&to_floats(&images).unwrap(), 3).unwrap();
    assert_eq!(found.dim(), (3 * 64, 24));
    let expected = to_floats(&z).unwrap();
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
    // What lies outside a place's field does not change its embedding, what lies inside does.
    let field = folded.receptive_field() as i64;
    assert!((40..=56).contains(&field), "{field}");
    let changed = images.copy();
    let _ = changed.narrow(3, 36 + field / 2 + 1, 64 - (36 + field / 2 + 1)).fill_(0.9);
    let moved = (to_rows(&net.encode(&changed, false)) - &z).abs().view([3, 8, 8, 24]).amax([0, 3], false);
    assert_eq!(moved.narrow(1, 0, 4).max().double_value(&[]), 0.0);
    assert!(moved.narrow(1, 6, 2).min().double_value(&[]) > 1e-4);
}

#[test]
fn patches_that_do_not_fit_are_refused() {
    let with = |patch: PatchConfig| NetworkConfig { patch: Some(patch), ..NetworkConfig::default() };
    for (patch, key) in [
        (PatchConfig { stride: 12, ..Default::default() }, "stride = 12"),
        (PatchConfig { stride: 0, ..Default::default() }, "stride = 0"),
        (PatchConfig { receptive_field: 0, ..Default::default() }, "receptive_field = 0"),
        (PatchConfig { bank_places: 0, ..Default::default() }, "bank_places = 0"),
        (PatchConfig { top: 0, ..Default::default() }, "top = 0"),
    ] {
        let error = with(patch).check(64).unwrap_err();
        assert!(error.contains("network.patch.") && error.contains(key), "{error}");
    }
    let unet = NetworkConfig { kind: NetworkKind::Unet, ..with(PatchConfig::default()) };
    assert!(unet.check(64).unwrap_err().contains("one embedding an image"));
    let widths = NetworkConfig { widths: vec![8, 8], ..with(PatchConfig::default()) };
    assert!(widths.check(64).unwrap_err().contains("takes 3 stages"));
}

#[test]
fn the_papers_network_has_its_parameters_and_cost() {
    let (_store, net, _) = built(NetworkKind::Unet, 256, vec![]);
    let folded = net.fold().unwrap();
    let millions = folded.parameters() as f64 / 1e6;
    let gflop = folded.flop() as f64 / 1e9;
    // METHOD: 22.1 M parameters and 3.1 GFLOP with d = 200; here d = 32 saves 168 x 1024 x 16 weights.
    assert!((millions + 168.0 * 1024.0 * 16.0 / 1e6 - 22.1).abs() < 0.1, "{millions}");
    assert!((gflop - 3.1).abs() < 0.1, "{gflop}");
}

#[test]
fn the_edge_networks_keep_their_budgets_and_fill_vectors() {
    for (kind, most) in [(NetworkKind::EdgeSmall, 0.04), (NetworkKind::Edge, 0.15), (NetworkKind::EdgeLarge, 0.35)] {
        let (_store, net, _) = built(kind, 128, vec![]);
        let folded = net.fold().unwrap();
        let gflop = folded.flop() as f64 / 1e9;
        assert!(gflop <= most, "{kind:?}: {gflop} GFLOP");
        let maps = folded.convolutions().count() - 1;
        assert!(folded.convolutions().take(maps).all(|c| c.bias.len() % 16 == 0), "{kind:?}");
    }
}

#[test]
fn edge_has_two_names_and_its_sisters_one() {
    let read = |kind: &str| toml::from_str::<NetworkConfig>(&format!("kind = \"{kind}\"")).map(|c| c.kind);
    assert_eq!((read("edge").unwrap(), read("edge-m").unwrap()), (NetworkKind::Edge, NetworkKind::Edge));
    for kind in [NetworkKind::EdgeSmall, NetworkKind::EdgeLarge] {
        assert_eq!(read(kind.name()).unwrap(), kind);
        assert!(toml::to_string(&NetworkConfig { kind, ..Default::default() }).unwrap().contains(kind.name()));
    }
    let error = read("edge-x").unwrap_err().to_string();
    assert!(["edge-s", "edge-m", "edge-l"].iter().all(|name| error.contains(name)), "{error}");
}

#[test]
fn patches_work_in_every_size() {
    for kind in [NetworkKind::EdgeSmall, NetworkKind::Edge, NetworkKind::EdgeLarge] {
        for stride in [4, 64] {
            let patch = Some(PatchConfig { stride, ..PatchConfig::default() });
            let config = NetworkConfig { kind, embedding_dim: 16, patch, ..NetworkConfig::default() };
            config.check(64).unwrap();
            let store = nn::VarStore::new(Device::Cpu);
            let net = Autoencoder::new(&store.root(), &config, &InputSpec { width: 64, height: 64, channels: 3 });
            let z = net.encode(&Tensor::rand([2, 3, 64, 64], (Kind::Float, Device::Cpu)), true);
            let places = i64::from(64 / stride);
            assert_eq!(z.size(), [2, 16, places, places], "{kind:?}");
        }
    }
}

#[test]
fn a_resnet18_has_its_parameters_and_cost() {
    let (_store, net, _) = built(NetworkKind::Resnet18, 224, vec![]);
    let folded = net.fold().unwrap();
    // torchvision's 11,689,512 without the classifier's 513,000 and without the scales of 4,800 channels, which are
    // folded; and the layer to the embedding.
    assert_eq!(folded.parameters(), 11_689_512 - 513_000 - 4_800 + 513 * 32);
    let gflop = folded.flop() as f64 / 1e9;
    // torchvision says 1.814 billion multiply-adds.
    assert!((gflop - 2.0 * 1.814).abs() < 0.01, "{gflop}");
    let (_store, net, _) = built(NetworkKind::Resnet18, 32, vec![]);
    let gflop = net.fold().unwrap().flop() as f64 / 1e9;
    assert!((gflop - 2.0 * 0.556).abs() < 0.01, "{gflop}");
}

#[test]
fn the_folded_net_computes_what_the_network_does() {
    for (kind, side, widths) in [
        (NetworkKind::Edge, 32, vec![8, 8, 8]),
        (NetworkKind::Unet, 24, vec![8, 8, 8, 8]),
        (NetworkKind::Resnet18, 16, vec![4, 8, 8, 16]),
        (NetworkKind::Resnet18, 96, vec![4, 8, 8, 16]),
    ] {
        let (_store, net, input) = built(kind, side, widths);
        let images = Tensor::rand([6, 3, i64::from(side), i64::from(side)], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
        // Statistics that are not those of the beginning.
        let _ = net.encode(&images, true);
        let expected = to_floats(&to_rows(&net.encode(&images, false))).unwrap();
        let found = net.fold().unwrap().encode(&to_floats(&images).unwrap(), 6).unwrap();
        assert_eq!(found.dim(), (6, expected.len() / 6), "{input:?}");
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{kind:?} {side}");
    }
}

#[test]
fn keys_of_another_network_and_stems_that_do_not_fit_are_refused() {
    let resnet = NetworkConfig { kind: NetworkKind::Resnet18, ..Default::default() };
    assert_eq!((resnet.stem(64), resnet.stem(65)), (resnet18::Stem::Cifar, resnet18::Stem::Imagenet));
    resnet.check(56).unwrap();
    resnet.check(96).unwrap();
    assert!(resnet.check(60).unwrap_err().contains("multiple of 8"));
    assert!(resnet.check(72).unwrap_err().contains("multiple of 32"));
    NetworkConfig { stem: StemChoice::Cifar, ..resnet.clone() }.check(72).unwrap();
    assert!(NetworkConfig { widths: vec![8, 8, 8], ..resnet }.check(64).unwrap_err().contains("4 stages"));
    let edge = NetworkConfig { init: Some("w.safetensors".into()), ..Default::default() };
    assert!(edge.check(128).unwrap_err().contains("network.init = \"w.safetensors\": only `resnet18`"));
    let edge = NetworkConfig { stem: StemChoice::Cifar, ..Default::default() };
    assert!(edge.check(128).unwrap_err().contains("network.stem = \"cifar\": only `resnet18`"));
}

#[test]
fn impossible_sizes_are_refused() {
    let config = NetworkConfig::default();
    assert!(config.check(100).unwrap_err().contains("input.size"));
    assert!(NetworkConfig { embedding_dim: 0, ..config.clone() }.check(128).is_err());
    assert!(NetworkConfig { widths: vec![4], ..config }.check(128).is_err());
}
