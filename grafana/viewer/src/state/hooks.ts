import { useEffect, useRef, useState, type RefObject } from 'react';

/** Calls *tick* every *interval* ("10s"; empty is never), and not while nobody looks at the page. */
export function useInterval(tick: () => void, seconds: number): void {
  const latest = useRef(tick);
  latest.current = tick;
  useEffect(() => {
    if (seconds <= 0) {
      return undefined;
    }
    const timer = window.setInterval(() => {
      if (!document.hidden) {
        latest.current();
      }
    }, seconds * 1000);
    return () => window.clearInterval(timer);
  }, [seconds]);
}

/** The width of an element, 0 until it is known. */
export function useWidth<T extends HTMLElement>(): [RefObject<T>, number] {
  const ref = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const element = ref.current;
    if (!element) {
      return undefined;
    }
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}
