//! A bundle's container taken apart and put together again, so that a mutated part gets past the hashes.

use salad_shared::bundle::sha256_hex;
use std::io::Read;

/// The entry that lists the others' hashes.
const SUMS: &str = "SHA256SUMS";

/// A part's name and content.
pub type Part = (String, Vec<u8>);

/// The entries of a tar but for its hashes; `None` where it is no tar with entries.
pub fn take_apart(bytes: &[u8]) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    for entry in tar::Archive::new(bytes).entries().ok()?.raw(true) {
        let mut entry = entry.ok()?;
        let name = entry.path().ok()?.to_str()?.to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).ok()?;
        if name != SUMS {
            parts.push((name, content));
        }
    }
    (!parts.is_empty()).then_some(parts)
}

/// A tar in FORMAT.md's form, with the hashes that belong to `parts`; `None` for a name that tar cannot hold.
pub fn put_together(parts: &[Part]) -> Option<Vec<u8>> {
    let sums: String = parts.iter().map(|(name, content)| format!("{}  {name}\n", sha256_hex(content))).collect();
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in parts.iter().map(|(n, c)| (n.as_str(), c.as_slice())).chain([(SUMS, sums.as_bytes())]) {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).ok()?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).ok()?;
    }
    builder.into_inner().ok()
}
