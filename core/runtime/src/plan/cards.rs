//! What makers say of their GPUs, for plans where nothing was measured.

/// A GPU as its maker's data sheet describes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// Name by which it is asked for.
    pub name: &'static str,
    /// Memory in bytes.
    pub memory: u64,
    /// Operations per second in bf16, dense, summed in f32.
    pub flops: f64,
    /// Bytes per second between the GPU and its memory.
    pub bandwidth: f64,
    /// Bytes per second that a GPU sends to others of its machine.
    pub link: f64,
    /// Where the figures are from.
    pub source: &'static str,
}

const GB: u64 = 1_000_000_000;

/// The cards that a plan knows.
pub const CARDS: [Card; 7] = [
    Card {
        name: "a100-40gb",
        memory: 40 * GB,
        flops: 312e12,
        bandwidth: 1.555e12,
        link: 300e9,
        source: "NVIDIA A100 data sheet, SXM",
    },
    Card {
        name: "a100",
        memory: 80 * GB,
        flops: 312e12,
        bandwidth: 2.039e12,
        link: 300e9,
        source: "NVIDIA A100 80GB data sheet, SXM",
    },
    Card {
        name: "h100",
        memory: 80 * GB,
        flops: 989e12,
        bandwidth: 3.35e12,
        link: 450e9,
        source: "NVIDIA H100 data sheet, SXM; half of the figure with sparsity",
    },
    Card {
        name: "h200",
        memory: 141 * GB,
        flops: 989e12,
        bandwidth: 4.8e12,
        link: 450e9,
        source: "NVIDIA H200 data sheet, SXM; half of the figure with sparsity",
    },
    Card {
        name: "l40s",
        memory: 48 * GB,
        flops: 362e12,
        bandwidth: 0.864e12,
        link: 32e9,
        source: "NVIDIA L40S data sheet; half of the figure with sparsity, PCIe 4.0 x16",
    },
    Card {
        name: "rtx4090",
        memory: 24 * GB,
        flops: 165e12,
        bandwidth: 1.008e12,
        link: 32e9,
        source: "NVIDIA Ada architecture paper, GeForce RTX 4090; PCIe 4.0 x16",
    },
    Card {
        name: "b200",
        memory: 180 * GB,
        flops: 2250e12,
        bandwidth: 7.7e12,
        link: 900e9,
        source: "NVIDIA HGX B200 data sheet; half of the figure with sparsity",
    },
];

/// The card of this name, in any case.
pub fn card(name: &str) -> Option<&'static Card> {
    CARDS.iter().find(|card| card.name.eq_ignore_ascii_case(name))
}

/// Share of a card's operations that reading prompts and log-probabilities reach.
pub const READING_EFFICIENCY: f64 = 0.5;
/// Share of a card's operations that training reaches.
pub const TRAINING_EFFICIENCY: f64 = 0.4;
/// Share of a card's bandwidth that writing answers reaches.
pub const WRITING_EFFICIENCY: f64 = 0.6;
/// Share of the speed of so many GPUs that is left when a model is cut into parts for them.
pub const CUT_EFFICIENCY: f64 = 0.8;
/// Share of the link between GPUs that gathering and adding up reach.
pub const LINK_EFFICIENCY: f64 = 0.6;
/// Bytes per second at which a model comes from disk or goes there.
pub const DISK: f64 = 1e9;
