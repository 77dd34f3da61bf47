//! Prints what the kernel this runs on holds of Ashlar's, one line each. Runs as root.

use ashlar_kernel_iface::dm::RealDm;
use ashlar_kernel_iface::tree::RealTree;

fn main() -> anyhow::Result<()> {
    let (configfs, run) = (RealTree::configfs(), RealTree::new("/run"));
    for line in ashlar_kernel_view::view(&configfs, &run, &RealDm::open()?)? {
        println!("{line}");
    }
    Ok(())
}
