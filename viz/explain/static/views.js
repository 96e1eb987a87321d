((explain) => {
  const views = new Map();

  /** Registers a view for one operator or several; see README. */
  explain.registerView = (operators, view) => {
    for (const name of [].concat(operators)) views.set(name, view);
  };

  /** The view of an operator that accepts this context, or null. */
  explain.viewFor = (context) => {
    const view = views.get(context.node.op);
    if (!view) return null;
    return !view.accepts || view.accepts(context) ? view : null;
  };
})(globalThis.explain);
