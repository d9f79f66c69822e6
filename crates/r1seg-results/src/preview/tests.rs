use std::io::Cursor;

use r1seg::PromptPoint;
use r1seg::volume::{Region, Scale, Voxels};

use super::canvas::Rect;
use super::palette::{FAINT_TEXT, TEXT};
use super::raster::Field;
use super::view::{Anatomy, Plane};
use super::window::Window;
use super::{BoxMark, Named, Picture, Scene, label_color, panel, render};

const SPACING_MM: [f64; 3] = [5.0, 0.8, 0.7];

fn scene<'a>(volume: &'a Voxels, labels: &'a [u16], shape: [usize; 3]) -> Scene<'a> {
    Scene { labels, title: "a title", ..Scene::new(volume, shape) }
}

/// Of intensities in `0..=1`.
fn field<'a>(volume: &'a Voxels, labels: &'a [u16], shape: [usize; 3]) -> Field<'a> {
    let mut field = Field::new(&scene(volume, labels, shape));
    field.window = Window { low: 0.0, high: 1.0, name: None };
    field
}

/// The 48 ways in which array axes run along world axes: for each of R, A and S the array
/// axis and whether its index grows that way.
fn orientations() -> impl Iterator<Item = [(usize, bool); 3]> {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    orders.into_iter().flat_map(|order| {
        (0..8).map(move |signs| std::array::from_fn(|i| (order[i], signs >> i & 1 == 1)))
    })
}

fn axes_of(orientation: [(usize, bool); 3]) -> [[f64; 3]; 3] {
    let mut axes = [[0.0; 3]; 3];
    for (world, (axis, along)) in orientation.into_iter().enumerate() {
        axes[axis][world] = if along { SPACING_MM[axis] } else { -SPACING_MM[axis] };
    }
    axes
}

fn luminance(picture: &Picture, x: usize, y: usize) -> u32 {
    let start = (y * picture.width + x) * 3;
    picture.rgb[start..start + 3].iter().map(|channel| u32::from(*channel)).sum()
}

#[test]
fn patient_lies_the_radiological_way_in_all_48_orientations() {
    const SHAPE: [usize; 3] = [4, 5, 6];
    let mut seen = 0;
    for orientation in orientations() {
        // A voxel at the right, anterior, superior end of the patient.
        let mut index = [0; 3];
        for (axis, along) in orientation {
            index[axis] = if along { SHAPE[axis] - 1 } else { 0 };
        }
        let [d, h, w] = index;
        let voxel = (d * SHAPE[1] + h) * SHAPE[2] + w;
        let (mut volume, mut labels) = (vec![0.0; 120], vec![0; 120]);
        (volume[voxel], labels[voxel]) = (1.0, 4);

        let volume = Voxels::from(volume);
        let field = field(&volume, &labels, SHAPE);
        let anatomy = Anatomy::new(Some(axes_of(orientation)));
        for (plane, across, down) in [
            (Plane::Axial, ['R', 'L'], ['A', 'P']),
            (Plane::Coronal, ['R', 'L'], ['S', 'I']),
            (Plane::Sagittal, ['A', 'P'], ['S', 'I']),
        ] {
            let view = anatomy.view(plane, SHAPE);
            assert_eq!(view.across.letters, Some(across), "{orientation:?}");
            assert_eq!(view.down.letters, Some(down), "{orientation:?}");

            let size = [view.across.count, view.down.count];
            let tile = field.cut(&view, index[view.through], size);
            let mut expected = vec![0; size[0] * size[1]];
            expected[0] = 4;
            assert_eq!(tile.labels, expected, "{plane:?} of {orientation:?}");
            assert!(tile.grey[0] == 1.0 && tile.grey[1..].iter().all(|grey| *grey == 0.0));
        }
        seen += 1;
    }
    assert_eq!(seen, 48);
}

#[test]
fn picture_is_the_same_however_the_array_is_stored() {
    // The same patient, 6 x 7 x 8 voxels to R, A and S, in all orders.
    const SIZES: [usize; 3] = [6, 7, 8];
    let spacing_mm = 2.0;
    let pictures: Vec<Picture> = orientations()
        .map(|orientation| {
            let (mut shape, mut axes) = ([0; 3], [[0.0; 3]; 3]);
            for (world, (axis, along)) in orientation.into_iter().enumerate() {
                shape[axis] = SIZES[world];
                axes[axis][world] = if along { spacing_mm } else { -spacing_mm };
            }
            let (mut volume, mut labels) = (Vec::new(), Vec::new());
            for i in 0..shape.iter().product() {
                let index = [i / (shape[1] * shape[2]), i / shape[2] % shape[1], i % shape[2]];
                let [r, a, s] = std::array::from_fn(|world| {
                    let (axis, along) = orientation[world];
                    if along { index[axis] } else { SIZES[world] - 1 - index[axis] }
                });
                volume.push((r * 56 + a * 8 + s) as f32 / 336.0);
                labels.push(u16::from((1..4).contains(&r) && (2..5).contains(&a) && s > 4));
            }
            let volume = Voxels::from(volume);
            render(&Scene { axes: Some(axes), ..scene(&volume, &labels, shape) })
        })
        .collect();
    for picture in &pictures {
        // The cuts; slice numbers are those of the array.
        for (x, y) in (60..430).flat_map(|y| (0..picture.width).map(move |x| (x, y))) {
            let difference = luminance(picture, x, y).abs_diff(luminance(&pictures[0], x, y));
            assert!(difference <= 3, "({x}, {y})");
        }
    }
}

#[test]
fn cut_of_anisotropic_voxels_has_the_true_aspect_ratio() {
    // A bright box of 40 mm each way, in voxels of 10 x 2 x 1 mm.
    let shape = [12, 60, 120];
    let inside = |i: usize| {
        let (d, h, w) = (i / 7200, i / 120 % 60, i % 120);
        (4..8).contains(&d) && (20..40).contains(&h) && (40..80).contains(&w)
    };
    let volume: Vec<i16> = (0..86_400).map(|i| i16::from(inside(i))).collect();
    let volume = Voxels::from(volume);
    let field = field(&volume, &[], shape);
    let axes = [[0.0, 0.0, 10.0], [0.0, -2.0, 0.0], [-1.0, 0.0, 0.0]];
    for plane in Plane::ALL {
        let view = Anatomy::new(Some(axes)).view(plane, shape);
        let size = view.size_within([240, 240]);
        assert_eq!(size, [240, 240], "{plane:?}");
        let tile = field.cut(&view, shape[view.through] / 2, size);
        let bright = |start: usize, step: usize| {
            (0..240).filter(|i| tile.grey[start + i * step] > 0.5).count()
        };
        assert_eq!((bright(120 * 240, 1), bright(120, 240)), (80, 80), "{plane:?}");
    }
}

#[test]
fn letters_are_drawn_at_the_sides_and_only_if_they_are_known() {
    let volume = Voxels::from(vec![0_i16; 1000]);
    let field = field(&volume, &[], [10, 10, 10]);
    let area = Rect { x: 0, y: 0, width: 200, height: 200 };
    let drawn = |axes| {
        let mut picture = Picture::filled(200, 200, [0; 3]);
        let view = Anatomy::new(axes).view(Plane::Axial, [10, 10, 10]);
        panel::draw_cut(&mut picture, area, &field, &view, [5, 5, 5], false);
        let bright = |xs: std::ops::Range<usize>, ys: std::ops::Range<usize>| {
            xs.flat_map(|x| ys.clone().map(move |y| (x, y)))
                .filter(|(x, y)| luminance(&picture, *x, *y) > 600)
                .count()
        };
        [
            bright(0..24, 80..120),
            bright(176..200, 80..120),
            bright(80..120, 0..24),
            bright(80..120, 176..200),
        ]
    };
    let known = Some([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]]);
    let pixels_of = |letter| super::font::pixels(letter).count() * 4;
    assert_eq!(drawn(known), ['R', 'L', 'A', 'P'].map(pixels_of));
    assert_eq!(drawn(None), [0; 4]);
}

#[test]
fn mask_has_an_outline_in_its_color_with_a_dark_rim() {
    let (volume, shape) = (Voxels::from(vec![1_i16; 400]), [1, 20, 20]);
    let inside = |i: usize| (5..15).contains(&(i / 20)) && (5..15).contains(&(i % 20));
    let labels: Vec<u16> = (0..400).map(|i| u16::from(inside(i))).collect();
    let field = field(&volume, &labels, shape);
    let view = Anatomy::new(None).view(Plane::Axial, shape);
    let tile = field.cut(&view, 0, [20, 20]);
    let mut picture = Picture::filled(20, 20, [0; 3]);
    super::overlay::draw(&mut picture, (0, 0), &tile, 2);

    let row: Vec<[u8; 3]> =
        picture.rgb[10 * 60..11 * 60].chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect();
    let (white, rim, orange, fill) = ([255; 3], [51; 3], [230, 159, 0], [249, 231, 191]);
    assert_eq!(row[..8], [white, white, white, white, rim, orange, orange, fill]);
    assert_eq!(row[12..], [fill, orange, orange, rim, white, white, white, white]);
}

#[test]
fn degenerate_scenes_are_drawn_without_a_panic() {
    let axes = [None, Some(axes_of([(2, false), (1, false), (0, true)]))];
    let shapes = [
        [0, 0, 0],
        [0, 5, 5],
        [5, 5, 0],
        [1, 1, 1],
        [1, 40, 50],
        [40, 1, 50],
        [40, 50, 1],
        [1, 1, 3000],
        [3000, 1, 1],
        [2, 1500, 1],
    ];
    for axes in axes {
        for shape in shapes {
            let voxels = shape.iter().product();
            for label in [0, 1, 255] {
                let volume = Voxels::from(vec![0.5_f32; voxels]);
                let labels = vec![label; voxels];
                let picture = render(&Scene { axes, ..scene(&volume, &labels, shape) });
                assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
            }
        }
    }
}

#[test]
fn arrays_of_another_length_than_the_shape_are_left_out() {
    let labels = [1; 60];
    for (voxels, labels, shape) in [
        (59, &labels[..], [3, 4, 5]),
        (60, &labels[..59], [3, 4, 5]),
        (60, &[][..], [3, 4, 5]),
        (60, &labels[..], [usize::MAX, usize::MAX, 2]),
    ] {
        render(&scene(&Voxels::from(vec![1_i16; voxels]), labels, shape));
    }
}

#[test]
fn extreme_axes_intensities_and_texts_are_drawn_without_a_panic() {
    let whole = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, 1.0, 2.0];
    let name = "\u{0}\n\u{1F480}".repeat(100);
    let names = [Named { name: name.clone(), mask: None }];
    for mm in [1e-6, 1e-3, 1e6, 1e-300, f64::MAX, f64::NAN] {
        for range in [0..8, 0..1, 1..3, 3..5, 5..8] {
            let volume: Vec<f32> = whole[range].iter().copied().cycle().take(8).collect();
            let volume = &Voxels::from(volume);
            let axes = Some([[0.0, 0.0, mm], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
            let title = &name;
            let labels = &[0, 1, 2, 3, 4, 5, 0, 1];
            render(&Scene { axes, names: &names, title, ..scene(volume, labels, [2; 3]) });
        }
    }
}

#[test]
fn picture_of_16_bit_voxels_is_that_of_their_intensities() {
    let shape = [6, 30, 40];
    let stored: Vec<i16> = (0..7200).map(|i| i % 900).collect();
    let scale = Scale { slope: 2.0, inter: -1000.0 };
    let intensities: Vec<f32> = stored.iter().map(|v| scale.apply(*v)).collect();
    let labels: Vec<u16> = (0..7200).map(|i| u16::from(i % 40 > 30)).collect();
    let drawn = |volume| render(&scene(&volume, &labels, shape)).rgb;
    assert!(drawn(Voxels::I16 { stored, scale }) == drawn(Voxels::F32(intensities)));
}

#[test]
fn size_of_the_picture_does_not_depend_on_the_volume() {
    for shape in [[1, 2, 3], [3, 512, 512], [2, 64, 2048]] {
        let volume = Voxels::from(vec![7_i16; shape.iter().product()]);
        let picture = render(&scene(&volume, &[], shape));
        assert_eq!((picture.width, picture.height), (1200, 1090), "{shape:?}");
    }
}

#[test]
fn mask_of_a_single_voxel_is_drawn_in_its_color_in_every_cut() {
    let shape = [60, 300, 300];
    let mut labels = vec![0; 5_400_000];
    labels[(47 * 300 + 211) * 300 + 33] = 2;
    let volume = Voxels::from(vec![0_i16; 5_400_000]);
    let picture = render(&scene(&volume, &labels, shape));
    let sky_blue = |xs: std::ops::Range<usize>, ys: std::ops::Range<usize>| {
        xs.flat_map(|x| ys.clone().map(move |y| (x, y)))
            .filter(|(x, y)| {
                let start = (y * picture.width + x) * 3;
                picture.rgb[start..start + 3] == [86, 180, 233]
            })
            .count()
    };
    for x in [12, 404, 796] {
        assert!(sky_blue(x..x + 380, 56..434) > 0, "cut at {x}");
    }
    assert!(sky_blue(12..860, 464..1068) > 0, "mosaic");
}

#[test]
fn png_decodes_to_the_same_pixels() -> std::io::Result<()> {
    let volume = Voxels::from((0..1000).map(|i| i % 13).collect::<Vec<i16>>());
    let labels: Vec<u16> = (0..1000).map(|i| u16::from(i % 100 > 60)).collect();
    let picture = render(&scene(&volume, &labels, [10, 10, 10]));
    let (mut bytes, mut again) = (Vec::new(), Vec::new());
    picture.write_png(&mut bytes)?;
    picture.write_png(&mut again)?;
    assert_eq!(bytes, again);

    let mut reader = png::Decoder::new(Cursor::new(&bytes)).read_info()?;
    let mut rgb = vec![0; reader.output_buffer_size().unwrap_or(0)];
    let info = reader.next_frame(&mut rgb)?;
    assert_eq!((info.width as usize, info.height as usize), (picture.width, picture.height));
    assert_eq!(rgb, picture.rgb);
    Ok(())
}

#[test]
fn png_of_no_pixels_is_an_error() {
    let picture = Picture { width: 0, height: 4, rgb: Vec::new() };
    assert!(picture.write_png(Vec::new()).is_err());
}

#[test]
fn png_that_cannot_be_written_is_an_error() {
    let picture = Picture::filled(9, 9, [0; 3]);
    assert!(picture.write_png(&mut [0; 20][..]).is_err());
}

#[test]
fn box_is_framed_around_its_voxels_where_a_cut_goes_through_it() {
    let shape = [8, 40, 40];
    let volume = Voxels::F32(vec![0.0; 8 * 40 * 40]);
    let mark = |start, end| BoxMark { label: 2, region: Region { start, end } };
    let draw = |boxes: &[BoxMark]| {
        let picture = render(&Scene { boxes, ..scene(&volume, &[], shape) });
        picture.rgb.chunks_exact(3).filter(|p| *p == label_color(2)).count()
    };
    assert_eq!(draw(&[]), 0);
    // Three cuts, eight slices of which three are in the box, and a swatch.
    let one = draw(&[mark([2, 10, 5], [5, 30, 25])]);
    assert!(one > 2000, "{one}");
    // A box of one voxel is still seen, and one outside of the volume is not.
    assert!(draw(&[mark([7, 39, 39], [8, 40, 40])]) > 30);
    assert_eq!(draw(&[mark([0, 0, 0], [9, 40, 40])]), 0);
    assert_eq!(draw(&[mark([3, 3, 3], [3, 4, 4])]), 0);
}

/// Pixels of a color in the three cuts.
fn in_cuts(picture: &Picture, color: [u8; 3]) -> usize {
    let (left, right) = (12, 1188);
    let rows = picture.rgb.chunks_exact(picture.width * 3).take(434).skip(80);
    rows.map(|row| row[left * 3..right * 3].chunks_exact(3).filter(|p| *p == color).count()).sum()
}

#[test]
fn points_and_a_box_that_were_asked_about_are_drawn_apart_from_what_was_found() {
    let shape = [8, 40, 40];
    let volume = Voxels::F32(vec![0.0; 8 * 40 * 40]);
    let point = |voxel, positive| PromptPoint { voxel, positive };
    let draw = |points: &[PromptPoint], asked_boxes: &[Region]| {
        render(&Scene { points, asked_boxes, ..scene(&volume, &[], shape) })
    };
    let nothing = draw(&[], &[]);
    let more = |picture: &Picture, color| in_cuts(picture, color) - in_cuts(&nothing, color);
    // The cuts go through the first point, and past the second.
    let one = draw(&[point([2, 10, 30], true)], &[]);
    assert!(more(&one, TEXT) > 90, "{}", more(&one, TEXT));
    let two = draw(&[point([2, 10, 30], true), point([6, 30, 5], false)], &[]);
    assert_eq!(more(&two, TEXT), more(&one, TEXT));
    assert!(more(&two, FAINT_TEXT) > 90, "{}", more(&two, FAINT_TEXT));
    // An upright cross and a slanted one are not the same picture.
    assert!(draw(&[point([2, 10, 30], false)], &[]).rgb != one.rgb);
    // A box is dashed: its frame has fewer pixels than that of one that was found.
    let region = Region { start: [2, 10, 5], end: [5, 30, 25] };
    let asked = draw(&[], &[region]);
    assert!(more(&asked, TEXT) > 300, "{}", more(&asked, TEXT));
    let found = [BoxMark { label: 2, region }];
    let found = render(&Scene { boxes: &found, ..scene(&volume, &[], shape) });
    assert_eq!(in_cuts(&asked, label_color(2)), 0);
    assert!(in_cuts(&found, label_color(2)) > 2 * more(&asked, TEXT));
    let other = Region { start: [2, 32, 30], end: [5, 38, 38] };
    assert!(more(&draw(&[], &[region, other]), TEXT) > more(&asked, TEXT));
    // Outside of the volume there is nothing to draw.
    let outside = Region { start: [0, 0, 0], end: [9, 40, 40] };
    assert!(draw(&[point([8, 0, 0], true)], &[outside]).rgb == nothing.rgb);
}

#[test]
fn a_window_that_was_asked_for_decides_what_is_black_and_white() {
    let shape = [4, 20, 20];
    let volume = Voxels::from((0..1600).map(|n| n % 20 * 100 - 1000).collect::<Vec<i16>>());
    let draw = |window| render(&Scene { window, ..scene(&volume, &[], shape) }).rgb;
    let [auto, lung, bone] = [None, Some("lung"), Some("400,1800")]
        .map(|window| draw(window.map(|window| window.parse::<Window>().unwrap())));
    assert!(auto != lung && lung != bone && auto != bone);
}
