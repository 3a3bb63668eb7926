//! The encoder on the device: an ONNX part of a bundle, run in integers of our own (`integer`) where it is a quantized
//! one as the trainer writes them, else by tract. The only place that runs tract.

use crate::integer::{Buffers, Net, Path, read};
use salad_shared::bundle::Bundle;
use salad_shared::manifest::Form;
use salad_shared::preprocess::{InputSpec, normalise};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::knobs::set_config_global;
use tract_onnx::tract_core::plan::{SimplePlan, SimpleState};

type Plan = SimplePlan<TypedFact, Box<dyn TypedOp>>;
type State = SimpleState<TypedFact, Box<dyn TypedOp>>;

/// How far the length of an embedding may lie from 1.
const LENGTH_TOLERANCE: f32 = 0.01;

/// Why an encoder cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncoderError {
    /// The graph takes or gives something other than the manifest says.
    #[error(
        "{part}: {what} is {has}, and manifest.json says {says}: the bundle's parts come from different models; \
         export the bundle again"
    )]
    Mismatch {
        /// The bundle's part.
        part: &'static str,
        /// Its input or its output.
        what: &'static str,
        /// What the graph has.
        has: String,
        /// What the manifest asks for.
        says: String,
    },
    /// It is not ONNX, or not ONNX that can be run.
    #[error("{part}: cannot be used as an encoder: {problem}; export the bundle again")]
    Unusable {
        /// The bundle's part.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// One frame could not be encoded.
    #[error("{part}: a frame could not be encoded: {problem}")]
    Frame {
        /// The bundle's part.
        part: &'static str,
        /// What went wrong.
        problem: String,
    },
}

/// The kernels for int8 that this processor has, the fastest first; the environment variable `SALAD_KERNEL` takes a name.
pub fn kernels() -> impl Iterator<Item = &'static str> {
    Path::available().map(Path::name)
}

/// The kernel to take: the fastest, or the one that `SALAD_KERNEL` names, for comparisons, where the processor has it. The
/// search among prototypes takes the fastest in any case.
fn kernel() -> Path {
    let Ok(wanted) = std::env::var("SALAD_KERNEL") else { return Path::best() };
    Path::available().find(|path| path.name() == wanted).unwrap_or_else(|| {
        let names: Vec<_> = kernels().collect();
        log::warn!(
            "SALAD_KERNEL={wanted}: not a kernel of this processor, so it is ignored; it has {}",
            names.join(", ")
        );
        Path::best()
    })
}

/// An encoder that is checked and planned, for any number of threads to take an [`Encoder`] from.
#[derive(Debug, Clone)]
pub struct EncoderPlan {
    part: &'static str,
    engine: Engine,
    input: InputSpec,
    /// Embeddings of a frame, and their length.
    output: [usize; 2],
}

#[derive(Debug, Clone)]
enum Engine {
    Integer(Arc<Net>),
    Tract(Arc<Plan>),
}

impl EncoderPlan {
    /// Loads one form of a bundle's encoder, checks its input \[1, channels, height, width\] and output \[P, d\] against
    /// the manifest, plans it, and lets it encode one made-up picture.
    pub fn load(bundle: &Bundle, form: Form) -> Result<EncoderPlan, EncoderError> {
        let onnx = if form == Form::F32 { &bundle.encoder_f32 } else { &bundle.encoder_int8 };
        let output = [bundle.manifest.places(), bundle.manifest.encoder.embedding_dim as usize];
        EncoderPlan::new(onnx, form, bundle.manifest.input.clone(), output)
    }

    /// The same for a bundle's part by itself; `output` is embeddings of a frame and their length.
    pub fn new(onnx: &[u8], form: Form, input: InputSpec, output: [usize; 2]) -> Result<EncoderPlan, EncoderError> {
        let (part, proto) = parse(onnx, form, &input)?;
        let integer = guarded(|| Ok(read(&proto, &input).and_then(|spec| Net::new(&spec, kernel()))));
        let integer = integer.map_err(|problem| EncoderError::Unusable { part, problem })?;
        match integer.filter(|net| net.shape() == output) {
            Some(net) => EncoderPlan { part, engine: Engine::Integer(Arc::new(net)), input, output }.tried_out(),
            None => EncoderPlan::planned_by_tract(part, &proto, input, output),
        }
    }

    /// The same, run by tract whatever the graph is.
    pub fn with_tract(
        onnx: &[u8],
        form: Form,
        input: InputSpec,
        output: [usize; 2],
    ) -> Result<EncoderPlan, EncoderError> {
        let (part, proto) = parse(onnx, form, &input)?;
        EncoderPlan::planned_by_tract(part, &proto, input, output)
    }

    fn planned_by_tract(
        part: &'static str,
        proto: &pb::ModelProto,
        input: InputSpec,
        output: [usize; 2],
    ) -> Result<EncoderPlan, EncoderError> {
        let unusable = |problem| EncoderError::Unusable { part, problem };
        guarded(without_amx).map_err(unusable)?;
        let model = guarded(|| onnx().model_for_proto_model(proto)?.into_typed()).map_err(unusable)?;
        check_output(part, &model, output)?;
        let plan = guarded(|| SimplePlan::new(model.into_optimized()?)).map_err(unusable)?;
        EncoderPlan { part, engine: Engine::Tract(plan), input, output }.tried_out()
    }

    /// What runs it: the kernel's name, or `tract`.
    pub fn engine(&self) -> &'static str {
        match &self.engine {
            Engine::Integer(net) => net.path().name(),
            Engine::Tract(_) => "tract",
        }
    }

    /// An encoder of one's own, for one thread; the weights stay shared.
    pub fn encoder(&self) -> Result<Encoder, EncoderError> {
        let working = match &self.engine {
            Engine::Integer(net) => Working::Integer(Arc::clone(net), net.buffers()),
            Engine::Tract(plan) => {
                let state = guarded(|| plan.spawn());
                let unusable = |problem| EncoderError::Unusable { part: self.part, problem };
                Working::Tract(Arc::clone(plan), state.map_err(unusable)?, Vec::new())
            }
        };
        Ok(Encoder { part: self.part, input: self.input.clone(), output: self.output, working })
    }

    /// Itself, after it has encoded a made-up picture.
    fn tried_out(self) -> Result<EncoderPlan, EncoderError> {
        let picture: Vec<u8> = (0..rgb_len(&self.input)).map(|i| ((i * 7919) % 256) as u8).collect();
        self.encoder()?.encode(&picture, &mut Vec::new()).map_err(|e| match e {
            EncoderError::Frame { part, problem } => EncoderError::Unusable { part, problem },
            other => other,
        })?;
        Ok(self)
    }
}

/// Encodes one frame after another; its buffers and its plan are kept between frames.
#[derive(Debug)]
pub struct Encoder {
    part: &'static str,
    input: InputSpec,
    output: [usize; 2],
    working: Working,
}

/// An engine with what one thread works in.
#[derive(Debug)]
enum Working {
    Integer(Arc<Net>, Buffers),
    Tract(Arc<Plan>, State, Vec<f32>),
}

impl Encoder {
    /// The encoder of one form of a bundle; see [`EncoderPlan::load`].
    pub fn new(bundle: &Bundle, form: Form) -> Result<Encoder, EncoderError> {
        EncoderPlan::load(bundle, form)?.encoder()
    }

    /// Fills `embeddings` \[P, d\] row by row, each of unit length, for a picture in the input's size, RGB8 \[height, width, 3\];
    /// P is 1 without patches. A picture of another size and an output that is not finite or not of unit length are errors;
    /// the encoder stays usable.
    pub fn encode(&mut self, rgb: &[u8], embeddings: &mut Vec<f32>) -> Result<(), EncoderError> {
        let part = self.part;
        let result = self.run(rgb, embeddings).and_then(|()| check_embeddings(embeddings, self.output));
        result.map_err(|problem| EncoderError::Frame { part, problem })
    }

    fn run(&mut self, rgb: &[u8], embeddings: &mut Vec<f32>) -> Result<(), String> {
        let spec = &self.input;
        if rgb.len() != rgb_len(spec) {
            return Err(format!("{} bytes, and a picture for the network has {}", rgb.len(), rgb_len(spec)));
        }
        let (plan, state, input) = match &mut self.working {
            Working::Integer(net, buffers) => {
                net.run(rgb, buffers, embeddings);
                return Ok(());
            }
            Working::Tract(plan, state, input) => (plan, state, input),
        };
        normalise(rgb, spec.channels, input);
        let shape = [1, spec.channels as usize, spec.height as usize, spec.width as usize];
        let result = guarded(|| {
            let output = state.run(tvec!(Tensor::from_shape(&shape, input)?.into()))?;
            embeddings.clear();
            if let Some(z) = output.first() {
                embeddings.extend_from_slice(z.try_as_plain_ram()?.as_slice::<f32>()?);
            }
            Ok(())
        });
        if result.is_err() {
            // What a run that failed leaves in the state must not reach the next frame.
            *state = guarded(|| plan.spawn())?;
        }
        result
    }
}

/// Which part of a bundle it is, and its graph, whose input is as `input` says.
fn parse(mut onnx: &[u8], form: Form, input: &InputSpec) -> Result<(&'static str, pb::ModelProto), EncoderError> {
    let part = if form == Form::F32 { "encoder.onnx" } else { "encoder.int8.onnx" };
    let proto = guarded(|| tract_onnx::onnx().proto_model_for_read(&mut onnx));
    let proto = proto.map_err(|problem| EncoderError::Unusable { part, problem })?;
    check_input(part, &proto, input)?;
    Ok((part, proto))
}

/// Bytes of a picture in the input's size.
fn rgb_len(input: &InputSpec) -> usize {
    3 * input.width as usize * input.height as usize
}

/// Refuses embeddings that similarities cannot be taken of.
fn check_embeddings(z: &[f32], [places, embedding_dim]: [usize; 2]) -> Result<(), String> {
    if z.len() != places * embedding_dim {
        return Err(format!("its output has {} values where {places} x {embedding_dim} are due", z.len()));
    }
    z.chunks_exact(embedding_dim.max(1)).try_for_each(check_embedding)
}

/// The zero vector passes: nothing could be made of the frame, which is for the score to say, not for the frame to be
/// dropped.
fn check_embedding(z: &[f32]) -> Result<(), String> {
    let length = z.iter().map(|v| v * v).sum::<f32>().sqrt();
    if !length.is_finite() {
        return Err("its output is not finite".to_owned());
    }
    if (length - 1.0).abs() > LENGTH_TOLERANCE && length > LENGTH_TOLERANCE {
        return Err(format!("its output has length {length} where a unit vector is due"));
    }
    Ok(())
}

fn check_input(part: &'static str, proto: &pb::ModelProto, spec: &InputSpec) -> Result<(), EncoderError> {
    let unusable = |problem: String| EncoderError::Unusable { part, problem };
    let graph = proto.graph.as_ref().ok_or_else(|| unusable("it has no graph".to_owned()))?;
    // Old exporters list the weights among the inputs too.
    let mut inputs = graph.input.iter().filter(|i| !graph.initializer.iter().any(|w| w.name == i.name));
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return Err(unusable("it does not have exactly one input".to_owned()));
    };
    let says = [1, i64::from(spec.channels), i64::from(spec.height), i64::from(spec.width)];
    let declared = input.r#type.as_ref().and_then(|t| t.value.as_ref());
    let (elements, dims) = match declared {
        Some(pb::type_proto::Value::TensorType(t)) => (t.elem_type, dims(t)),
        None => return Err(unusable(format!("its input {} has no type", input.name))),
    };
    if elements == pb::tensor_proto::DataType::Float as i32 && dims.iter().eq(says.map(Some).iter()) {
        return Ok(());
    }
    let element = pb::tensor_proto::DataType::try_from(elements).map_or("unknown", |t| t.as_str_name());
    let has = dims.iter().map(|d| d.map_or("?".to_owned(), |d| d.to_string())).collect::<Vec<_>>().join(", ");
    Err(EncoderError::Mismatch {
        part,
        what: "its input",
        has: format!("{element} [{has}]"),
        says: format!("FLOAT {says:?}"),
    })
}

/// A tensor's declared dimensions; `None` for one that is symbolic or left open.
fn dims(tensor: &pb::type_proto::Tensor) -> Vec<Option<i64>> {
    use pb::tensor_shape_proto::dimension::Value;
    let dims = tensor.shape.iter().flat_map(|s| &s.dim);
    dims.map(|d| if let Some(Value::DimValue(v)) = d.value { Some(v) } else { None }).collect()
}

fn check_output(part: &'static str, model: &TypedModel, says: [usize; 2]) -> Result<(), EncoderError> {
    let has = match model.outputs.as_slice() {
        [output] => model.outlet_fact(*output).cloned().map_err(|e| format!("{e:#}")),
        several => Err(format!("it has {} outputs where one is due", several.len())),
    };
    let has = has.map_err(|problem| EncoderError::Unusable { part, problem })?;
    if has.datum_type == f32::datum_type() && has.shape.as_concrete() == Some(&says) {
        return Ok(());
    }
    let shape = has.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(EncoderError::Mismatch {
        part,
        what: "its output",
        has: format!("{:?} [{shape}]", has.datum_type),
        says: format!("F32 {says:?}"),
    })
}

/// Keeps tract from Intel's AMX: its int8 kernel loads 64 values of a column at a time, also where fewer were packed, and
/// what lies behind them may not be there. It has to be said before tract looks at the processor.
fn without_amx() -> TractResult<()> {
    if cfg!(target_arch = "x86_64") { set_config_global("TRACT_CPU_ISA", "-amx-int8") } else { Ok(()) }
}

/// Runs tract code on a graph that nobody vouches for: where tract panics over it, that is an error like any other, and
/// nothing about it reaches standard error.
fn guarded<T>(run: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    static QUIET_HOOK: Once = Once::new();
    thread_local!(static GUARDED: Cell<bool> = const { Cell::new(false) });
    QUIET_HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                hook(info);
            }
        }));
    });
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(|e| one_line(&format!("{e:#}"))),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("its graph is inconsistent ({})", one_line(words.unwrap_or("no details"))))
        }
    }
}

/// An error's words on one line, and not more of them than a person would read.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 300 { line.chars().take(300).chain("...".chars()).collect() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::{Net, bundle};

    #[test]
    fn both_forms_give_a_unit_vector_and_repeat_it() {
        let bundle = bundle();
        for form in [Form::F32, Form::Int8] {
            let mut encoder = Encoder::new(&bundle, form).unwrap();
            let picture: Vec<u8> = (0..3 * 16 * 16).map(|i| (i % 7 * 30) as u8).collect();
            let (mut first, mut z) = (Vec::new(), Vec::new());
            encoder.encode(&picture, &mut first).unwrap();
            assert!((first.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
            encoder.encode(&[200; 3 * 16 * 16], &mut z).unwrap();
            encoder.encode(&picture, &mut z).unwrap();
            assert_eq!(z, first);
        }
    }

    #[test]
    fn a_picture_of_another_size_and_a_result_that_is_not_finite_are_errors() {
        let mut encoder = Encoder::new(&bundle(), Form::F32).unwrap();
        let mut z = Vec::new();
        assert!(encoder.encode(&[0; 5], &mut z).unwrap_err().to_string().contains("5 bytes"));
        assert!(encoder.encode(&[160; 3 * 16 * 16], &mut z).is_ok());
        assert!(check_embeddings(&[f32::NAN, 0.0], [1, 2]).unwrap_err().contains("not finite"));
    }

    #[test]
    fn the_onnx_of_another_network_is_named_with_what_it_has() {
        let mut other = bundle();
        other.encoder_f32 = Net { size: 32, ..Net::default() }.onnx();
        let error = EncoderPlan::load(&other, Form::F32).unwrap_err().to_string();
        assert!(error.contains("encoder.onnx") && error.contains("[1, 3, 32, 32]") && error.contains("[1, 3, 16, 16]"));
        assert!(EncoderPlan::load(&other, Form::Int8).is_ok());

        other.encoder_int8 = Net { dim: 5, ..Net::default() }.onnx();
        let error = EncoderPlan::load(&other, Form::Int8).unwrap_err().to_string();
        assert!(error.contains("encoder.int8.onnx") && error.contains("[1, 5]") && error.contains("[1, 4]"), "{error}");
    }

    #[test]
    fn a_graph_without_unit_length_is_refused_when_it_is_loaded() {
        let mut bundle = bundle();
        bundle.encoder_f32 = Net { normalised: false, ..Net::default() }.onnx();
        let error = EncoderPlan::load(&bundle, Form::F32).unwrap_err();
        assert!(matches!(error, EncoderError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("unit vector"), "{error}");
    }

    #[test]
    fn damaged_onnx_is_an_error_and_never_a_panic() {
        let mut bundle = bundle();
        let good = bundle.encoder_f32.clone();
        // Most of the file is weights; what is around them is flipped densely.
        let places = (0..good.len()).filter(|i| *i < 300 || *i + 500 > good.len() || i % 101 == 0);
        let mut panics = 0;
        for (i, bit) in places.flat_map(|i| [0, 2, 5].map(|b| (i, b))) {
            bundle.encoder_f32 = good.clone();
            bundle.encoder_f32[i] ^= 1 << bit;
            // A flipped bit in a weight may pass; what matters is that each is answered.
            if let Err(error) = EncoderPlan::load(&bundle, Form::F32) {
                assert!(error.to_string().contains("encoder.onnx"), "{error}");
                panics += u32::from(error.to_string().contains("its graph is inconsistent"));
            }
        }
        assert!(panics > 0, "tract answers them all by itself: then the guard against its panics can go");
        for cut in (0..good.len()).step_by(5) {
            bundle.encoder_f32 = good[..cut].to_vec();
            assert!(EncoderPlan::load(&bundle, Form::F32).is_err(), "cut at {cut}");
        }
    }
}
