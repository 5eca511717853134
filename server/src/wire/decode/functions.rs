//! Functions, loops and control flow.

use gradtape_engine::{
    command::{Callee, Flow, FunctionCall, FunctionDefinition, Kind, LoopRequest},
    error::Error,
};
use gradtape_proto::v1;

use super::{
    aval,
    fields::{MAX_HANDLES, bounded, handles, malformed},
};

pub(super) fn define_function(message: &v1::DefineFunction) -> Kind {
    let specs = bounded(message.specs.len(), MAX_HANDLES, "define_function.specs")
        .and_then(|()| message.specs.iter().map(aval).collect());
    let function = message.function;
    // Whatever is wrong, what follows is a body and must not be executed.
    let (parameters, specs) = match handles(&message.parameters, "define_function.parameters") {
        Ok(parameters) => (parameters, specs),
        Err(error) => (Vec::new(), Err(error)),
    };
    Kind::DefineFunction(FunctionDefinition { function, parameters, specs })
}

pub(super) fn call_function(message: &v1::CallFunction) -> Result<Kind, Error> {
    let parameters = handles(&message.parameters, "call_function.parameters")?;
    let results = handles(&message.results, "call_function.results")?;
    let callee = if message.function == 0 {
        Callee::Shown { parameters, results }
    } else if parameters.is_empty() && results.is_empty() {
        Callee::Defined(message.function)
    } else {
        return Err(malformed("call_function.function", "excludes parameters and results"));
    };
    Ok(Kind::CallFunction(FunctionCall {
        callee,
        arguments: handles(&message.arguments, "call_function.arguments")?,
        outputs: handles(&message.outputs, "call_function.outputs")?,
    }))
}

pub(super) fn run_loop(message: &v1::RunLoop) -> Result<Kind, Error> {
    Ok(Kind::RunLoop(LoopRequest {
        function: message.function,
        steps: message.steps,
        datasets: handles(&message.datasets, "run_loop.datasets")?,
        batch_size: message.batch_size,
        shuffle_seed: message.shuffle_seed,
        arguments: handles(&message.arguments, "run_loop.arguments")?,
        carried: message.carried as usize,
        outputs: handles(&message.outputs, "run_loop.outputs")?,
        report_every: message.report_every,
        stream_reports: message.stream_reports,
        while_result: message.while_result.map(|number| number as usize),
    }))
}

pub(super) fn branch(message: &v1::Branch) -> Result<Kind, Error> {
    let flow = Flow::Branch {
        index: message.index,
        functions: handles(&message.functions, "branch.functions")?,
        arguments: handles(&message.arguments, "branch.arguments")?,
    };
    Ok(Kind::Control { flow, outputs: handles(&message.outputs, "branch.outputs")? })
}

pub(super) fn while_loop(message: &v1::WhileLoop) -> Result<Kind, Error> {
    let flow = Flow::While {
        condition: message.condition,
        body: message.body,
        carried: handles(&message.carried, "while_loop.carried")?,
        maximum_iterations: message.maximum_iterations.map(|most| most as usize),
    };
    Ok(Kind::Control { flow, outputs: handles(&message.outputs, "while_loop.outputs")? })
}

pub(super) fn scan(message: &v1::Scan) -> Result<Kind, Error> {
    /// Most slices of a scan.
    const MAX_LENGTH: usize = 1 << 20;
    let length = message.length as usize;
    bounded(length, MAX_LENGTH, "scan.length")?;
    let flow = Flow::Scan {
        body: message.body,
        carried: handles(&message.carried, "scan.carried")?,
        stacks: handles(&message.stacks, "scan.stacks")?,
        length,
        reverse: message.reverse,
    };
    Ok(Kind::Control { flow, outputs: handles(&message.outputs, "scan.outputs")? })
}
