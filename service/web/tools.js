// The tools that make marks by dragging: each begins at a point, follows more of them, and ends or is dropped.

import * as marks from "./marks.js";

/** `board` has the easel, the outline, the brush's width and the chosen layer; `done` takes the mark. */
export const makeTools = (board, done) => {
  const line = {
    begin(point) {
      this.mark = marks.stroke(board.layer(), board.width(), [point]);
      board.easel.follow(this.mark, 0);
    },
    follow(points) {
      const first = this.mark.points.length;
      this.mark.points.push(...points);
      board.easel.follow(this.mark, first);
    },
    end() {
      done(this.mark);
    },
    drop() {
      board.easel.redraw();
    },
  };

  const shape = (corners) => ({
    begin(point) {
      this.points = [point];
    },
    follow(points) {
      this.points.push(...points);
      board.outline(corners(this.points));
    },
    end() {
      board.outline(null);
      const polygon = corners(this.points);
      if (polygon.length > 2) done(marks.area(board.layer(), polygon));
    },
    drop() {
      board.outline(null);
    },
  });

  const rectangle = (points) => {
    const [[left, top], [right, bottom]] = [points[0], points.at(-1)];
    return [[left, top], [right, top], [right, bottom], [left, bottom]];
  };
  return { hole: line, sketch: line, erase: line, rectangle: shape(rectangle), lasso: shape((points) => [...points]) };
};
