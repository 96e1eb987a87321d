((explain) => {
  const MATHML = "http://www.w3.org/1998/Math/MathML";
  const TAGS = new Set(
    "mrow mi mn mo mtext mfrac msup msub msubsup munder munderover msqrt mroot mtable mtr mtd mspace".split(" "),
  );

  const build = (tree) => {
    if (typeof tree === "string") return document.createTextNode(tree);
    const [tag, ...rest] = tree;
    const element = document.createElementNS(MATHML, TAGS.has(tag) ? tag : "mrow");
    for (const part of rest) {
      if (part && typeof part === "object" && !Array.isArray(part)) {
        for (const [name, value] of Object.entries(part)) element.setAttribute(name, value);
      } else if (part !== null) element.append(build(part));
    }
    return element;
  };

  /** A <math> element of a tree (see README). */
  explain.math = (tree, display = false) => {
    const element = document.createElementNS(MATHML, "math");
    if (display) element.setAttribute("displaystyle", "true");
    element.append(build(tree));
    return element;
  };

  /** The symbol of a node: q, or h with a subscript. */
  explain.symbolTree = (node) =>
    node.subscript ? ["msub", ["mi", node.symbol], ["mtext", node.subscript]] : ["mi", node.symbol];

  /** dL/dq */
  explain.derivativeTree = (loss, node) => [
    "mfrac",
    ["mrow", ["mi", "d"], ["mi", loss]],
    ["mrow", ["mi", "d"], explain.symbolTree(node)],
  ];
})(globalThis.explain);
