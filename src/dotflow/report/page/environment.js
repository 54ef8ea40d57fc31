// The end of a run's page: its own output and its environment.

function runOutput(doc) {
  const own = (doc.output ?? []).filter((each) => each.task_id === -1 && each.size);
  return own.length > 0 && section("output", "Output of the run itself",
    own.map((each) => fold(size(each.size), false, outputBlock(each, "Output of the run"))));
}

function environment({ run }) {
  const { python, dotflow, system, packages, folder, argv, commit } = run.environment ?? {};
  const installed = Array.isArray(packages) ? packages : Object.entries(packages ?? {}).map((pair) => pair.join(" "));
  return section("environment", "Environment",
    terms([["Run", code(run.run_id)], ["Command", code([argv ?? []].flat().join(" "))], ["Folder", code(folder)],
      ["Commit", code(commit)],
      ["Process", code(run.process)], ["Storage", code(run.storage)], ["Python", code(python)],
      ["dotflow", code(dotflow)], ["System", code(system)], ["Trace", code(run.trace)]]),
    run.notes.length > 0 && h("ul.notes", null, run.notes.map((note) => h("li", null, time(note.at), " ", note.text))),
    installed.length > 0 && fold(count(installed.length, "package"), false,
      h("ul.packages", null, installed.map((each) => h("li", null, each)))));
}

const footer = (doc) =>
  h("footer", null, `dotflow ${doc.dotflow}, `, time(doc.made), ". Values of secrets are shown as ***.");
