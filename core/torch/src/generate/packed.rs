//! Weight matrices, packed once in the order in which products read them.
//!
//! Packing is most of what loading costs: the numbers are read where the file is mapped, by all threads, and written once to
//! fresh pages. Not to huge ones: products are no faster with them, and a system whose memory is full of files
//! moves those out of the way first, which took up to 2 s for 1 GB.

use std::thread;

use memmap2::MmapMut;
use tch::{Device, Kind, Tensor};

use super::{simd::has_bf16, tiles::PANEL};
use crate::{Precision, Result, TorchError};

/// Floats from which a second thread pays.
const WORTH_A_THREAD: usize = 1 << 18;

/// Lanes of a row that are written before the next row's: with those of the panel's other rows they stay in the first
/// cache.
const BLOCK: usize = 16;

/// Floats in memory of their own, zeros to begin with: what is never written takes no memory.
pub(crate) struct Pages {
    memory: MmapMut,
    len: usize,
}

impl Pages {
    /// `len` zeros, which begin on a page.
    ///
    /// # Errors
    /// [`TorchError::Memory`] when the system has no memory for them.
    pub(crate) fn zeros(len: usize) -> Result<Self> {
        let bytes = len * size_of::<f32>();
        let memory = MmapMut::map_anon(bytes.max(1))
            .map_err(|error| TorchError::Memory(format!("no memory for {bytes} bytes of weights: {error}")))?;
        Ok(Self { memory, len })
    }
}

impl std::ops::Deref for Pages {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the mapping begins on a page and holds `len` floats; any bits are a float.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.len) }
    }
}

/// The bits of `x` rounded to bf16, to the nearest, ties to even. Infinities and NaN are not looked after.
pub(crate) fn bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16
}

/// A number as a model folder holds it.
pub(crate) trait Number: Copy + Sync {
    /// Its value.
    fn float(self) -> f32;

    /// Its bits in bf16, rounded where it has more.
    fn half(self) -> u32;
}

impl Number for f32 {
    #[inline(always)]
    fn float(self) -> f32 {
        self
    }

    #[inline(always)]
    fn half(self) -> u32 {
        bf16(self)
    }
}

/// A bf16 number.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Half(u16);

impl Number for Half {
    #[inline(always)]
    fn float(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn half(self) -> u32 {
        u32::from(self.0)
    }
}

/// Matrices of one width that lie below each other, where libtorch or a mapped file holds them.
pub(crate) enum Source<'a> {
    Floats(Vec<&'a [f32]>),
    Halves(Vec<&'a [Half]>),
}

/// The numbers of a contiguous tensor on the CPU; `T` is what `kind` means.
fn numbers<T>(tensor: &Tensor, kind: Kind) -> Result<&[T]> {
    let there = tensor.f_kind()? == kind && tensor.device() == Device::Cpu && tensor.is_contiguous();
    if !there || size_of::<T>() != kind.elt_size_in_bytes() {
        return Err(TorchError::Machine(format!("weights to pack are not contiguous {kind:?} numbers on the CPU")));
    }
    if tensor.numel() == 0 {
        return Ok(&[]);
    }
    // SAFETY: `numel` numbers of T's size lie behind the pointer without gaps, any bits are a T, the tensor keeps them for
    // as long as it is borrowed, and nothing writes to a loaded model's weights.
    unsafe { Ok(std::slice::from_raw_parts(tensor.data_ptr().cast_const().cast(), tensor.numel())) }
}

impl<'a> Source<'a> {
    /// The matrices `tensors`, all f32 or all bf16.
    ///
    /// # Errors
    /// When they are anything else, or not on the CPU.
    pub(crate) fn new(tensors: &[&'a Tensor]) -> Result<Self> {
        if tensors.iter().all(|tensor| tensor.kind() == Kind::BFloat16) {
            let parts = tensors.iter().map(|tensor| numbers(tensor, Kind::BFloat16));
            return Ok(Self::Halves(parts.collect::<Result<_>>()?));
        }
        Ok(Self::Floats(tensors.iter().map(|tensor| numbers(tensor, Kind::Float)).collect::<Result<_>>()?))
    }
}

impl Source<'_> {
    /// All numbers as floats, as they lie.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn floats(&self) -> Result<Pages> {
        fn copied<N: Number>(parts: &[&[N]]) -> Result<Pages> {
            let mut pages = Pages::zeros(parts.iter().map(|part| part.len()).sum())?;
            for (to, number) in pages.iter_mut().zip(parts.iter().copied().flatten()) {
                *to = number.float();
            }
            Ok(pages)
        }
        match self {
            Source::Floats(parts) => copied(parts),
            Source::Halves(parts) => copied(parts),
        }
    }
}

/// A weight matrix [outputs, inputs], as panels of 32 outputs: [outputs / 32, inputs, 32], with zeros to fill the last.
/// In pairs the panels are [outputs / 32, inputs / 2, 32], the lower half of a lane for the input with the even index.
pub(crate) struct Packed {
    data: Pages,
    inputs: usize,
    outputs: usize,
    form: Form,
}

/// What is in the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Floats,
    /// f32 lanes that hold numbers rounded to bf16.
    Rounded,
    /// Two bf16 numbers to a lane.
    Pairs,
}

impl Form {
    fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Form::Floats,
            Precision::Bf16 if has_bf16() => Form::Pairs,
            Precision::Bf16 => Form::Rounded,
        }
    }

    /// Inputs to a lane.
    fn inputs(self) -> usize {
        if self == Form::Pairs { 2 } else { 1 }
    }

    /// What a lane holds of the numbers of its inputs.
    #[inline(always)]
    fn lane<N: Number>(self, number: impl Fn(usize) -> Option<N>) -> f32 {
        let half = |i| number(i).map_or(0, Number::half);
        match self {
            Form::Floats => number(0).map_or(0.0, Number::float),
            Form::Rounded => f32::from_bits(half(0) << 16),
            Form::Pairs => f32::from_bits(half(0) | half(1) << 16),
        }
    }
}

/// Writes one panel: its rows next to each other, a lane of each in turn.
fn fill<N: Number>(form: Form, panel: &mut [f32], rows: &[Option<&[N]>], columns: &[Option<usize>]) {
    let step = form.inputs();
    for (block, columns) in panel.chunks_mut(BLOCK * PANEL).zip(columns.chunks(BLOCK * step)) {
        let first = columns[0];
        let runs = first.is_some() && columns.iter().enumerate().all(|(i, column)| *column == first.map(|c| c + i));
        for (o, row) in rows.iter().enumerate() {
            let Some(row) = row else { continue };
            match first {
                Some(first) if runs => {
                    let row = &row[first..first + columns.len()];
                    for (lane, row) in block.chunks_exact_mut(PANEL).zip(row.chunks(step)) {
                        lane[o] = form.lane(|i| row.get(i).copied());
                    }
                }
                _ => {
                    for (lane, columns) in block.chunks_exact_mut(PANEL).zip(columns.chunks(step)) {
                        lane[o] = form.lane(|i| columns.get(i).copied().flatten().map(|column| row[column]));
                    }
                }
            }
        }
    }
}

impl Packed {
    /// Packs rows of `source`, whose matrices are `width` wide: `rows[o]` names the row that makes output `o`, `None` an
    /// output that is 0; `columns[i]` the column that input `i` meets, `None` an input that is ignored.
    ///
    /// # Errors
    /// When there is no memory for it.
    ///
    /// # Panics
    /// When a row or column is named that is not there.
    pub(crate) fn new(
        precision: Precision,
        source: &Source<'_>,
        width: usize,
        rows: &[Option<usize>],
        columns: &[Option<usize>],
        threads: usize,
    ) -> Result<Self> {
        let form = Form::of(precision);
        let outputs = rows.len().next_multiple_of(PANEL);
        let inputs = columns.len().next_multiple_of(form.inputs());
        let mut packed = Packed { data: Pages::zeros(outputs * inputs / form.inputs())?, inputs, outputs, form };
        match source {
            Source::Floats(parts) => packed.fill(parts, width, rows, columns, threads),
            Source::Halves(parts) => packed.fill(parts, width, rows, columns, threads),
        }
        Ok(packed)
    }

    fn fill<N: Number>(
        &mut self,
        parts: &[&[N]],
        width: usize,
        rows: &[Option<usize>],
        columns: &[Option<usize>],
        threads: usize,
    ) {
        let (form, size) = (self.form, self.panel());
        if size == 0 {
            return;
        }
        let all: Vec<&[N]> = parts.iter().flat_map(|part| part.chunks_exact(width)).collect();
        let rows: Vec<Option<&[N]>> = rows.iter().map(|row| row.map(|row| all[row])).collect();
        let pack = |panels: &mut [f32], rows: &[Option<&[N]>]| {
            for (panel, rows) in panels.chunks_exact_mut(size).zip(rows.chunks(PANEL)) {
                fill(form, panel, rows, columns);
            }
        };
        let threads = threads.min(self.data.len() / WORTH_A_THREAD).max(1);
        let share = rows.len().div_ceil(PANEL).div_ceil(threads).max(1);
        let mut shares = self.data.chunks_mut(share * size).zip(rows.chunks(share * PANEL));
        let own = shares.next();
        thread::scope(|scope| {
            for (panels, rows) in shares {
                scope.spawn(move || pack(panels, rows));
            }
            if let Some((panels, rows)) = own {
                pack(panels, rows);
            }
        });
    }

    /// Floats of a panel.
    fn panel(&self) -> usize {
        self.lanes() * PANEL
    }

    /// What is in the lanes.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Lanes of a row of input.
    pub(crate) fn lanes(&self) -> usize {
        self.inputs / self.form.inputs()
    }

    /// Outputs, rounded up to whole panels: the least width of a row of output.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The panels, one after the other.
    pub(crate) fn panels(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.panel().max(1))
    }

    /// Copies the weights of one output: a token's embedding, where the embedding matrix is the output matrix.
    pub(crate) fn row(&self, output: usize, to: &mut [f32]) {
        let panel = &self.data[output / PANEL * self.panel()..][..self.panel()];
        for (to, lanes) in to.chunks_mut(self.form.inputs()).zip(panel.chunks_exact(PANEL)) {
            let lane = lanes[output % PANEL];
            if self.form == Form::Pairs {
                for (to, bits) in to.iter_mut().zip([lane.to_bits() << 16, lane.to_bits() & 0xFFFF_0000]) {
                    *to = f32::from_bits(bits);
                }
            } else {
                to[0] = lane;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places(most: usize) -> impl Strategy<Value = Vec<Option<usize>>> {
        let scattered = proptest::collection::vec(proptest::option::weighted(0.8, 0..most), 1..80);
        let run =
            (0..most, 1..=most).prop_map(move |(first, count)| (first..most.min(first + count)).map(Some).collect());
        prop_oneof![scattered, run]
    }

    fn check<N: Number>(
        packed: &Packed,
        numbers: &[N],
        width: usize,
        rows: &[Option<usize>],
        columns: &[Option<usize>],
    ) {
        let exact = |o: usize, i: usize| match (rows[o], columns[i]) {
            (Some(row), Some(column)) if packed.form == Form::Floats => numbers[row * width + column].float(),
            (Some(row), Some(column)) => f32::from_bits(numbers[row * width + column].half() << 16),
            _ => 0.0,
        };
        let mut found = vec![f32::NAN; columns.len()];
        for o in 0..rows.len() {
            packed.row(o, &mut found);
            for (i, found) in found.iter().enumerate() {
                assert_eq!(found.to_bits(), exact(o, i).to_bits(), "output {o}, input {i}, {:?}", packed.form);
            }
        }
        for o in rows.len()..packed.outputs {
            packed.row(o, &mut found);
            assert!(found.iter().all(|x| x.to_bits() == 0), "output {o} of {}", rows.len());
        }
    }

    proptest! {
        #[test]
        fn every_weight_is_at_its_place_however_it_is_held(
            width in 1usize..70, heights in proptest::collection::vec(1usize..40, 1..4), threads in 1usize..4,
            bits in any::<u64>(), picks in (places(1000), places(1000)),
        ) {
            let height: usize = heights.iter().sum();
            let named = |places: &[Option<usize>], most: usize| -> Vec<Option<usize>> {
                places.iter().map(|place| place.map(|place| place % most)).collect()
            };
            let (rows, columns) = (named(&picks.0, height), named(&picks.1, width));
            let halves: Vec<Half> =
                (0..height * width).map(|i| Half((bits.rotate_left(i as u32 % 64) as u16).wrapping_add(i as u16) & 0xBF7F)).collect();
            let floats: Vec<f32> = halves.iter().map(|x| x.float() * 1.001).collect();
            let cuts: Vec<usize> = heights.iter().scan(0, |end, height| { *end += height * width; Some(*end) }).collect();
            let part = |i: usize| if i == 0 { 0..cuts[0] } else { cuts[i - 1]..cuts[i] };
            let float_parts = Source::Floats((0..cuts.len()).map(|i| &floats[part(i)]).collect());
            let half_parts = Source::Halves((0..cuts.len()).map(|i| &halves[part(i)]).collect());
            for precision in [Precision::F32, Precision::Bf16] {
                let pack = |source| Packed::new(precision, source, width, &rows, &columns, threads).unwrap();
                check(&pack(&float_parts), &floats, width, &rows, &columns);
                check(&pack(&half_parts), &halves, width, &rows, &columns);
            }
            prop_assert!(half_parts.floats().unwrap().iter().zip(&halves).all(|(a, b)| a.to_bits() == b.float().to_bits()));
        }
    }

    #[test]
    fn many_threads_pack_what_one_does() {
        let (height, width) = (2000, 600);
        let numbers: Vec<f32> = (0..height * width).map(|i| i as f32).collect();
        let every = |n: usize| (0..n).map(Some).collect::<Vec<_>>();
        let source = Source::Floats(vec![&numbers]);
        let pack =
            |threads| Packed::new(Precision::F32, &source, width, &every(height), &every(width), threads).unwrap();
        assert!(*pack(1).data == *pack(3).data);
        check(&pack(3), &numbers, width, &every(height), &every(width));
    }
}
