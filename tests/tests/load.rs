//! Loads more addresses than one call of the batch takes, and reads back where each leads.

use std::path::Path;

use sg_userspace::kernel::measure::{Way, load};
use tests::stale::{BPFFS, unique_name};

#[test]
fn every_address_of_a_large_load_leads_to_its_class() {
    const ADDRESSES: u32 = 40_001;
    for way in [Way::Batch, Way::OneByOne] {
        let folder = Path::new(BPFFS).join(unique_name("load"));
        let found = load(&folder, ADDRESSES, way).expect("a load").found;
        assert_eq!(found, ADDRESSES as usize, "{way:?}");
        assert!(!folder.exists());
    }
}
