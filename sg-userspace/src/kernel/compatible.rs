//! Whether maps that are pinned already are the ones that the object wants. aya takes whatever has the name, and the
//! kernel compares only what a program does with it: a program would read elements of another layout.

use std::path::Path;

use aya::maps::MapInfo;
use aya_obj::Object;
use aya_obj::generated::bpf_map_type;

use super::KernelError;

/// Refuses pinned maps of another type, another layout or another size. `sizes` are the entries asked for, of maps
/// that have not the object's own.
pub(super) fn check(
    pins: &Path,
    object: &[u8],
    sizes: &[(&'static str, u32)],
) -> Result<(), KernelError> {
    if !pins.join("GENERATION").exists() {
        return Ok(());
    }
    let unreadable = |error: aya_obj::ParseError| KernelError::Object(Box::new(error.into()));
    let object = Object::parse(object).map_err(unreadable)?;
    for (name, wanted) in &object.maps {
        let pin = pins.join(name);
        if !pin.exists() {
            continue;
        }
        let failed = |source| KernelError::map("open", "of an earlier attach", source);
        let found = MapInfo::from_pin(&pin).map_err(failed)?;
        let size = sizes.iter().find(|(known, _)| known == name).map(|(_, size)| *size);
        let wanted = Shape {
            kind: wanted.map_type(),
            key: wanted.key_size(),
            value: wanted.value_size(),
            entries: size.unwrap_or(wanted.max_entries()),
            flags: wanted.map_flags(),
        };
        let found = Shape {
            kind: found.map_type().map_err(failed)? as u32,
            key: found.key_size(),
            value: found.value_size(),
            entries: found.max_entries(),
            flags: found.map_flags(),
        };
        if let Some(difference) = wanted.difference(&found) {
            return Err(KernelError::Incompatible { map: name.clone(), difference });
        }
    }
    Ok(())
}

/// What makes a map the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

impl Shape {
    /// The first thing in which what is there is not what is wanted.
    fn difference(&self, there: &Self) -> Option<String> {
        let ring = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
        // The kernel adds flags of its own to some; those asked for must be there. aya rounds a ring up to pages.
        let flags = there.flags & self.flags;
        let entries = if self.kind == ring { self.entries } else { there.entries };
        [
            ("type", self.kind, there.kind),
            ("key size", self.key, there.key),
            ("value size", self.value, there.value),
            ("number of entries", self.entries, entries),
            ("flags", self.flags, flags),
        ]
        .into_iter()
        .find(|(_, wanted, there)| wanted != there)
        .map(|(what, wanted, there)| format!("{what} {there} instead of {wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Shape = Shape { kind: 1, key: 16, value: 64, entries: 1024, flags: 1 };

    #[test]
    fn each_part_counts() {
        assert_eq!(TABLE.difference(&TABLE), None);
        for (other, word) in [
            (Shape { kind: 2, ..TABLE }, "type"),
            (Shape { key: 12, ..TABLE }, "key size"),
            (Shape { value: 56, ..TABLE }, "value size"),
            (Shape { entries: 2048, ..TABLE }, "number of entries"),
            (Shape { flags: 0, ..TABLE }, "flags"),
        ] {
            let difference = TABLE.difference(&other).expect("a difference");
            assert!(difference.starts_with(word), "{difference}");
        }
        // What the kernel adds of its own is none.
        assert_eq!(TABLE.difference(&Shape { flags: 0x401, ..TABLE }), None);
    }
}
